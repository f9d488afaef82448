import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkData } from "../../../lib/cli/commands/data_report.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { examples, inScratch } from "../../train/runs.ts";

Deno.test("checkData() describes the example clips", async () => {
  const config = parseConfig("preset: default", { overrides: { data_root: join(examples, "clips") } });
  const { lines, problems } = await checkData(config);
  assert.deepEqual(problems, []);
  assert.match(lines[4]!, /^Prompts: {6}\d+ to \d+ tokens$/);
  // Four clips of 17 frames at 8 frames per second, as `examples/make_clips.ts` makes them.
  assert.deepEqual(lines.slice(0, 4), [
    "Clips:        4, 9 s in all",
    "Sizes:        160x96 (4)",
    "Frame rates:  8 (4)",
    "Frames:       17 (4)",
  ]);
});

Deno.test("checkData() notes a prompt of 800 words, with the model's tokenizer and without a model", () =>
  inScratch(async (folder) => {
    const clips = join(folder, "clips");
    const list = join(clips, "prompts.txt");
    writeFileSync(list, readFileSync(list, "utf8").replace(/^.*/, "cat ".repeat(800).trim()));
    const notes = async (overrides: Record<string, unknown>) => {
      const config = parseConfig("model: 2b", {
        overrides: { data_root: clips, train_resolution: "17x96x160", ...overrides },
      });
      return (await checkData(config)).notes;
    };
    assert.match(
      (await notes({})).join(),
      /^videos\/ball\.mp4: the prompt has at least 801 tokens, of which 226 are read/,
    );
    assert.match(
      (await notes({ model_path: join(examples, "tiny-2b") })).join(),
      /the prompt has \d+ tokens, of which 226/,
    );
  }));

Deno.test("checkData() asks for a dataset", async () => {
  await assert.rejects(checkData(parseConfig("model: 2b\noutput_dir: out")), /Add --data_root FOLDER/);
});
