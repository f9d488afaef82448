/**
 * Dawn inside Deno, through the optional npm package `webgpu`: whether it is installed, loading it, and waiting on it.
 *
 * While anything is awaited, Dawn's binding asks for its events by `setImmediate` again and again, each time with a new native
 * function. Deno 2.9 keeps those in a list that it searches and closes up for each one collected: in one wait of 3.8 s 366,000
 * polls left behind so many that the wait ended after 139 s (llvmpipe, `deno test`). So polls are spaced out here.
 */
import { UserError } from "../errors.ts";

/** A name of the import map, which pins the version. Kept from static analysis, or every user would download all 133 MB. */
const PACKAGE: string = "webgpu";

/** Dawn hides its experimental features, matrix units among them, without this one. */
const FLAGS = ["enable-dawn-features=allow_unsafe_apis"];

/** What installs Dawn, in a clone and in a project that uses cogtune. */
export const installDawn = "deno add npm:webgpu@0.6.2";

/** True when loading Dawn needs no download: Deno resolves a package to a file once it is in the lock file. */
export function isDawnInstalled(): boolean {
  try {
    return import.meta.resolve(PACKAGE).startsWith("file:");
  } catch {
    return false;
  }
}

/** Instances have to stay referenced as long as anything made from them: once one is collected, calls hang, abort or crash. */
const instances: GPU[] = [];

/**
 * Loads Dawn, from the npm registry where it is not installed.
 *
 * @throws {UserError} when that fails.
 */
export async function loadDawn(): Promise<GPU> {
  try {
    const dawn: { create(flags: string[]): GPU } = await import(PACKAGE);
    spacePolls();
    instances.push(dawn.create(FLAGS));
    return instances.at(-1)!;
  } catch (error) {
    throw new UserError(
      `Cannot load the dawn engine: ${error instanceof Error ? error.message : error}`,
      `install it with \`${installDawn}\`, or leave engine at its default \`auto\``,
    );
  }
}

/** Share of the time already waited by which a wait may end late. */
const LATENESS = 1 / 16;

/** Pauses below this are spent in `setImmediate`, as a timer's end is 1 to 2 ms late. */
const LEAST_TIMER_MILLISECONDS = 2;

/** The longest pause: a wait that begins while another goes on takes over the pauses of that one. */
const MOST_MILLISECONDS = 8;

let spaced = false;

/** Has Dawn poll the more rarely the longer it waits. Other callers of `setImmediate` notice nothing. */
function spacePolls(): void {
  if (spaced) return;
  spaced = true;
  const { setImmediate } = globalThis;
  let begin = 0;
  let polling = false;
  const poll = (callback: () => void, due: number): unknown => {
    if (performance.now() < due) return setImmediate(poll, callback, due);
    polling = true;
    callback();
    polling = false;
  };
  const value = (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
    if (!isNative(callback)) return setImmediate(callback, ...args);
    const time = performance.now();
    // A poll asks for the next one; whoever asks outside of a poll begins a wait.
    if (!polling) begin = time;
    const pause = Math.min((time - begin) * LATENESS, MOST_MILLISECONDS);
    if (pause < LEAST_TIMER_MILLISECONDS) return setImmediate(poll, callback, time + pause);
    return setTimeout(poll, pause, callback, 0);
  };
  Object.defineProperty(globalThis, "setImmediate", { configurable: true, writable: true, value });
}

/** Whether an addon made this function: those have no name and no text. */
function isNative(callback: (...args: unknown[]) => void): boolean {
  return callback.name === "" && Function.prototype.toString.call(callback).endsWith("{ [native code] }");
}
