/** Work on a device whose errors are reasons, not the end of a run. */
import { messageOf } from "../errors.ts";
import type { Device } from "../gpu/device.ts";

/**
 * Runs `body` so that an error of the engine is a reason like what it returns: a text that a driver refuses must not
 * end the run.
 */
export async function guarded(
  device: Device,
  body: () => Promise<string | undefined | void>,
): Promise<string | undefined> {
  const { gpu } = device;
  for (const filter of ["validation", "out-of-memory", "internal"] as const) gpu.pushErrorScope(filter);
  let reason: string | undefined;
  // What the engine says comes first: wrong results follow from it.
  let refused: string | undefined;
  try {
    reason = await body() ?? undefined;
  } catch (error) {
    reason = messageOf(error);
  }
  for (let i = 0; i < 3; i++) {
    const error = await gpu.popErrorScope();
    if (error !== null) refused ??= error.message.trim().split("\n")[0]!;
  }
  return refused ?? reason;
}
