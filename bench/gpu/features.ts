/** Stage `features`: what `doctor` finds, and which engines the other stages run on. */
import { diagnose } from "../../lib/cli/commands/doctor.ts";
import { thisSystem } from "../../lib/cli/machine/system.ts";
import { describeEngines, describeMatrix } from "../../lib/gpu/engine.ts";
import { record } from "./stage.ts";

const engines = await describeEngines();
for (const { engine, adapter, problem } of engines) {
  const usable = adapter !== undefined;
  record(`engine ${engine}`, {
    usable,
    found: adapter?.description ?? problem ?? "no adapter",
    software: adapter?.software,
    matrix_units: adapter === undefined ? undefined : describeMatrix(adapter.matrix),
    missing: adapter?.missing.join(", "),
    limits: adapter?.limits,
  });
}
for (const { name, status, found, remedy } of await diagnose(thisSystem, () => Promise.resolve(engines))) {
  record(name, { status, found, remedy });
}
Deno.exit(0);
