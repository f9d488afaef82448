/**
 * Dawn inside Deno: loads the npm package `webgpu` and makes waiting on it cheap.
 *
 * While anything is awaited, Dawn's binding asks for its events by `setImmediate` again and again, each time with a new native
 * function. Deno 2.9 keeps a list of native functions that it searches and closes up for each one collected, so that the work
 * grows with the square of what a wait leaves behind.
 */

/** Share of the time already waited by which a wait may end late. */
const LATENESS = 1 / 16;

/** Pauses below this are spent in `setImmediate`, as a timer's end is 1 to 2 ms late. */
const LEAST_TIMER_MILLISECONDS = 2;

/** The longest pause: waits that begin while another goes on take over its pauses. */
const MOST_MILLISECONDS = 8;

let paced = false;

/** Has Dawn poll more and more rarely the longer it waits. Other callers of `setImmediate` notice nothing. */
function pacePolls(): void {
  if (paced) return;
  paced = true;
  const { setImmediate } = globalThis;
  let begin = 0;
  let polling = false;
  const poll = (callback: () => void, due: number) => {
    if (performance.now() < due) return setImmediate(poll, callback, due);
    polling = true;
    callback();
    polling = false;
  };
  const pacedImmediate = (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
    if (!isDawns(callback)) return setImmediate(callback, ...args);
    const time = performance.now();
    if (!polling) begin = time;
    const pause = Math.min((time - begin) * LATENESS, MOST_MILLISECONDS);
    return pause < LEAST_TIMER_MILLISECONDS
      ? setImmediate(poll, callback, time + pause)
      : setTimeout(poll, pause, callback, 0);
  };
  Object.defineProperty(globalThis, "setImmediate", { configurable: true, writable: true, value: pacedImmediate });
}

/** Whether a native function without a name, as only addons make them. */
function isDawns(callback: (...args: unknown[]) => void): boolean {
  return callback.name === "" && Function.prototype.toString.call(callback).endsWith("{ [native code] }");
}

export async function loadDawn(flags: string[]): Promise<GPU> {
  const specifier = "npm:webgpu@0.6.2";
  pacePolls();
  const dawn: { create(flags: string[]): GPU } = await import(specifier);
  return dawn.create(flags);
}
