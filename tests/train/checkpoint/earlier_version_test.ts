/**
 * A checkpoint outlives the version that wrote it: what version 0.1 saved on 2026-11-22 (`version_0.1`, an adapter of rank 2
 * on the example model) is continued to the losses that it went on to itself, and what a later version may write is refused.
 */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { commitFolder, manifestName, verifyFolder } from "../../../lib/io/commit_folder.ts";
import { fromFileUrl } from "../../paths.ts";
import { collect, configOf, inScratch } from "../runs.ts";

const saved = fromFileUrl("./version_0.1/checkpoint-2", import.meta.url);

/** Losses of steps 3 and 4 as the version that wrote the checkpoint printed them, on Mesa's llvmpipe. */
const LOSSES = [2.1040077209472656, 1.9019968509674072];

/** The settings of the checkpoint, from which its own run went on. */
const settings = { rank: 2, target_modules: ["to_q"], lr_warmup_steps: 0, checkpointing_steps: 2, seed: 7 };

Deno.test("a checkpoint of version 0.1 continues with the losses that version had, and becomes one of this version", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { ...settings, resume_from_checkpoint: "latest" });
    cpSync(saved, join(config.output_dir, "checkpoint-2"), { recursive: true });
    const events = await collect(config);
    const losses = events.flatMap((event) => event.type === "step" ? [event.loss] : []);
    assert.equal(losses.length, LOSSES.length);
    // Kernels sum in another order than they did, and other drivers round differently.
    losses.forEach((loss, i) => assert.ok(Math.abs(loss - LOSSES[i]!) < 1e-4 * LOSSES[i]!, `${loss}, ${LOSSES[i]}`));
    const told = events.flatMap((event) => event.type === "warning" ? [event.message] : []);
    assert.deepEqual(told.map((message) => message.split(":")[0]).sort(), ["data_root", "model_path"]);
    const path = join(config.output_dir, "checkpoint-4");
    assert.deepEqual((await verifyFolder(path)).problems, []);
    assert.equal(typeof JSON.parse(readFileSync(join(path, "trainer.json"), "utf8")).inputs.transformer, "string");
  }));

Deno.test("what a later version writes is refused by what is not understood, and left as it is", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { ...settings, output_dir: join(folder, "next") });
    const changed = async (name: string, file: string, change: (text: string) => string) => {
      const copy = join(folder, name);
      await commitFolder(copy, (temporary) => {
        cpSync(saved, temporary, { recursive: true });
        rmSync(join(temporary, manifestName));
        if (file !== manifestName) {
          writeFileSync(join(temporary, file), change(readFileSync(join(temporary, file), "utf8")));
        }
      });
      const path = join(copy, file);
      if (file === manifestName) writeFileSync(path, change(readFileSync(path, "utf8")));
      return copy;
    };
    const cases: readonly (readonly [string, string, (text: string) => string, RegExp])[] = [
      ["manifest", manifestName, (text) => text.replace('"version": 1', '"version": 2'), /version 2[^]*version 1/],
      ["setting", "config.yaml", (text) => `${text}sparkle: 3\n`, /config\.yaml:\d+:1: unknown key "sparkle"/],
      [
        "choice",
        "config.yaml",
        (text) => text.replace("optimizer: adamw", "optimizer: zen"),
        /optimizer: expected one of/,
      ],
    ];
    for (const [name, file, change, says] of cases) {
      const copy = await changed(name, file, change);
      const before = readFileSync(join(copy, file), "utf8");
      await assert.rejects(
        collect({ ...config, resume_from_checkpoint: copy }),
        (error) => error instanceof UserError && says.test(error.message) && error.hint !== undefined,
        name,
      );
      assert.equal(readFileSync(join(copy, file), "utf8"), before);
    }
  }));
