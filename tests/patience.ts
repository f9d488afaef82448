/** Time in tests. A busy machine may take ten times as long for anything: conditions are waited for, and short deadlines grow. */

/** Milliseconds after which what is waited for counts as hung. */
export const HUNG = 120_000;

/** Waits until a condition holds. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const end = performance.now() + HUNG;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`Not within ${HUNG / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * Tests a deadline which some of the work has to meet. Where the test fails the machine may have been slower than the
 * deadline, so it is made once more with deadlines 8 and 64 times as long; the last failure counts.
 */
export async function withDeadline(milliseconds: number, test: (milliseconds: number) => Promise<void>): Promise<void> {
  for (const factor of [1, 8]) {
    try {
      return await test(factor * milliseconds);
    } catch {
      // The next deadline tells a slow machine from a fault.
    }
  }
  await test(64 * milliseconds);
}
