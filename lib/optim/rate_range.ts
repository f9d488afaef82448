/**
 * The learning-rate range test (arXiv:1506.01186, section 3.3): rates rise exponentially from step to step until the
 * loss diverges. All steps see the same clips, noise and timesteps, so that the loss changes by the weights alone.
 */

/** A loss and the rate of the update before it; the loss of the untouched weights has none. */
export interface RangePoint {
  readonly rate: number | undefined;
  readonly loss: number;
}

/** What a range test has found. */
export interface RangeResult {
  /** Rate with the lowest loss behind it. */
  readonly lowest: number;
  /** A tenth of that: updates of the lowest loss add up over all smaller rates, and a run has many more of them. */
  readonly suggested: number;
}

/** Rate of step `step` of `steps`, from `low` at the first to `high` at the last. */
export function rangeRate(step: number, steps: number, low: number, high: number): number {
  return low * (high / low) ** (step / Math.max(1, steps - 1));
}

/** Whether the last loss is not finite or four times the lowest, beyond which higher rates tell nothing. */
export function hasDiverged(points: readonly RangePoint[]): boolean {
  return !(points.at(-1)!.loss <= 4 * Math.min(...points.map(({ loss }) => loss)));
}

/** The result; undefined when no rate has lowered the loss. */
export function rangeResult(points: readonly RangePoint[]): RangeResult | undefined {
  const finite = points.filter(({ loss }) => Number.isFinite(loss));
  const rate = finite.toSorted((a, b) => a.loss - b.loss)[0]?.rate;
  return rate === undefined ? undefined : { lowest: rate, suggested: rate / 10 };
}
