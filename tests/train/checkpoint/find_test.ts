/** Which checkpoint a run continues from, and what of it fits the run: nothing is taken over before all of it does. */
import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError, UserErrors } from "../../../lib/errors.ts";
import type { Session } from "../../../lib/gpu/session.ts";
import { commitFolder } from "../../../lib/io/commit_folder.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { findCheckpoint, restoreState } from "../../../lib/train/checkpoint/checkpoint.ts";
import type { StateEntry } from "../../../lib/train/checkpoint/state_entries.ts";
import { withFolder } from "../../io/faulty_operations.ts";

Deno.test("a checkpoint to continue from is found whole, or is missed by name and with what to do", () =>
  withFolder(async (folder) => {
    const at = (step: number) => join(folder, `checkpoint-${step}`);
    const refused = (resume: string, says: RegExp, advice: RegExp) =>
      assert.rejects(findCheckpoint(resume, folder), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.summary, says);
        assert.match(error.hint!, advice);
        return true;
      });
    await refused("latest", /is latest, but ".*" holds no checkpoint/, /drop resume_from_checkpoint/);
    await refused(at(1), /checkpoint-1" does not exist/, /`latest`, or drop the option/);
    for (const step of [1, 2]) {
      await commitFolder(at(step), (inside) => {
        writeFileSync(join(inside, "weights"), `step ${step}`);
        const counters = { step, applied: step, lossScale: { value: 1, goodSteps: 0 } };
        writeFileSync(join(inside, "trainer.json"), JSON.stringify(counters));
      });
    }
    assert.deepEqual(await findCheckpoint("latest", folder), { path: at(2), warnings: [] });
    assert.deepEqual(await findCheckpoint(at(1), folder), { path: at(1), warnings: [] });

    appendFileSync(join(at(2), "weights"), "!");
    const { path, warnings } = await findCheckpoint("latest", folder);
    assert.equal(path, at(1));
    assert.match(warnings.join(), /checkpoint-2" is damaged \("weights" has 7 bytes.*: continuing from checkpoint-1$/);
    await refused(at(2), /checkpoint-2" is damaged: 1 problem/, /an older one, or from `latest`/);

    rmSync(join(at(1), "weights"));
    await refused("latest", /No checkpoint in ".*" is whole: 2 damaged/, /give the path/);
    mkdirSync(at(3));
    await refused(at(3), /checkpoint-3" is damaged/, /an older one/);
    writeFileSync(join(folder, "file"), "");
    await refused(join(folder, "file"), /file" is damaged/, /an older one/);
  }));

Deno.test("state of other tensors is refused with every difference, before any of it is taken", () =>
  withFolder(async (folder) => {
    const session = { flush: () => Promise.resolve() } as unknown as Session;
    const taken: string[] = [];
    const entry = (name: string, shape: number[], dtype: StateEntry["dtype"] = "f32"): StateEntry => ({
      name,
      shape,
      dtype,
      read: () => assert.fail("nothing is saved"),
      restore(bytes) {
        taken.push(`${name} ${bytes(0, 8)}`);
      },
    });
    const data = Float32Array.of(1, 2);
    await writeSafetensors(
      join(folder, "state.safetensors"),
      ["m.0", "values.0"].map((name) => ({ name, dtype: "F32" as const, shape: [2], data })),
    );
    const cases: readonly (readonly [StateEntry[], RegExp[]])[] = [
      [[entry("m.0", [2])], [/it holds 2 tensors, this run has 1/]],
      [[entry("m.0", [2]), entry("v.0", [2])], [/"v\.0" is missing/]],
      [[entry("m.0", [1, 2]), entry("v.0", [2])], [
        /"m\.0" has shape \[2\]: this run needs \[1,2\]/,
        /"v\.0" is missing/,
      ]],
      [[entry("m.0", [2]), entry("values.0", [2], "bf16")], [/"values\.0" is stored as F32: this run needs BF16/]],
    ];
    for (const [entries, expected] of cases) {
      await assert.rejects(restoreState(folder, session, entries), (error) => {
        assert.ok(error instanceof UserErrors);
        assert.equal(error.problems.length, expected.length, `${error.problems}`);
        expected.forEach((says, i) => assert.match(error.problems[i]!, says));
        return true;
      });
      assert.deepEqual(taken, []);
    }
    await restoreState(folder, session, [entry("m.0", [2]), entry("values.0", [2])]);
    assert.deepEqual(taken, ["m.0 0,0,128,63,0,0,0,64", "values.0 0,0,128,63,0,0,0,64"]);
    for (const value of [NaN, Infinity, -Infinity]) {
      const tensor = { name: "m.0", dtype: "F32" as const, shape: [2], data: Float32Array.of(1, value) };
      await writeSafetensors(join(folder, "state.safetensors"), [tensor]);
      await assert.rejects(restoreState(folder, session, [entry("m.0", [2])]), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, /"m\.0" holds NaN or infinity\nHint: resume from a checkpoint before the fault$/);
        return true;
      });
    }
    assert.equal(taken.length, 2);
  }));
