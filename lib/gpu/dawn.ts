/** Dawn inside Deno, through the optional npm package `webgpu`: whether it is installed, and loading it. */
import { messageOf, UserError } from "../errors.ts";
import { spacedPolls } from "./spaced_polls.ts";

/**
 * The name that {@linkcode installDawn} puts into the import map. Kept from static analysis, which would miss it where
 * it is not.
 */
const PACKAGE: string = "webgpu";

/**
 * Without them Dawn hides its experimental features, matrix units among them, and shader-f16 on NVIDIA's cards, without
 * which their matrix units take no f16; and it rounds the times of passes to 65 µs.
 */
const FLAGS = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
  "disable-dawn-features=timestamp_quantization",
];

/** What installs Dawn. */
export const installDawn = "deno add npm:webgpu@0.6.2";

/** True when Dawn was added: a name that the import map lacks resolves to nothing. */
export function isDawnInstalled(): boolean {
  try {
    return import.meta.resolve(PACKAGE) !== undefined;
  } catch {
    return false;
  }
}

/**
 * Referenced as long as the process lives: once it is collected, calls on whatever was made from it hang, abort or
 * crash.
 */
let instance: GPU | undefined;

/**
 * Loads Dawn.
 *
 * @throws {UserError} when that fails.
 */
export async function loadDawn(): Promise<GPU> {
  try {
    const dawn: { create(flags: string[]): GPU } = await import(PACKAGE);
    return instance ??= create(dawn);
  } catch (error) {
    throw new UserError(
      `Cannot load the dawn engine: ${messageOf(error)}`,
      `install it with \`${installDawn}\`, or leave engine at its default \`auto\``,
    );
  }
}

function create(dawn: { create(flags: string[]): GPU }): GPU {
  const { setImmediate, setTimeout } = globalThis;
  const value = spacedPolls({ setImmediate, setTimeout, now: () => performance.now() });
  Object.defineProperty(globalThis, "setImmediate", { configurable: true, writable: true, value });
  return dawn.create(FLAGS);
}
