/**
 * A `setImmediate` under which waiting on Dawn is cheap. While anything is awaited, Dawn's binding asks for its events
 * by `setImmediate` again and again, each time with a new native function. Deno 2.9 keeps those in a list that it
 * searches and closes up for each one collected: a wait for 3.8 s of work left behind 366,000 and ended after 139 s
 * (llvmpipe, `deno test`).
 */

/** Share of the time already waited by which a wait may end late. */
const LATENESS = 1 / 16;

/** Pauses below this are spent in `setImmediate`, as a timer's end is 1 to 2 ms late. */
const LEAST_TIMER_MILLISECONDS = 2;

/** The longest pause: a wait that begins while another goes on takes over the pauses of that one. */
const MOST_MILLISECONDS = 8;

type Callback = (...args: unknown[]) => unknown;

/** What the event loop offers; replaced by tests. */
export interface Timers {
  setImmediate(callback: Callback, ...args: unknown[]): unknown;
  setTimeout(callback: Callback, milliseconds: number): unknown;
  /** Milliseconds. */
  now(): number;
}

/**
 * `setImmediate` that calls addons' functions the more rarely the longer a wait takes. For others it is that of
 * `timers`.
 */
export function spacedPolls({ setImmediate, setTimeout, now }: Timers): Timers["setImmediate"] {
  let begin = 0;
  let polling = false;
  const poll = (callback: Callback) => {
    polling = true;
    try {
      callback();
    } finally {
      polling = false;
    }
  };
  const pollAt = (due: number, callback: Callback): unknown =>
    now() < due ? setImmediate(() => pollAt(due, callback)) : poll(callback);
  return (callback, ...args) => {
    if (!isNative(callback)) return setImmediate(callback, ...args);
    // A poll asks for the next one; whoever asks outside of a poll begins a wait.
    if (!polling) begin = now();
    const pause = Math.min((now() - begin) * LATENESS, MOST_MILLISECONDS);
    if (pause >= LEAST_TIMER_MILLISECONDS) return setTimeout(() => poll(callback), pause);
    const due = now() + pause;
    return setImmediate(() => pollAt(due, callback));
  };
}

/** Whether an addon made this function: those have no name and no text. */
function isNative(callback: Callback): boolean {
  return callback.name === "" && Function.prototype.toString.call(callback).endsWith("{ [native code] }");
}
