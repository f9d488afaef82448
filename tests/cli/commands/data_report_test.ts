import assert from "node:assert/strict";
import { checkData } from "../../../lib/cli/commands/data_report.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { clipsFolder } from "../../reference.ts";

Deno.test({
  name: "checkData() describes the example clips",
  ignore: clipsFolder === undefined,
  fn: async () => {
    const config = parseConfig("preset: default", { overrides: { data_root: clipsFolder } });
    const { lines, problems } = await checkData(config);
    assert.deepEqual(problems, []);
    // Three clips of 195 frames at 30 frames per second, as their page says.
    assert.deepEqual(lines.slice(0, 4), [
      "Clips:        3, 20 s in all",
      "Sizes:        640x360 (3)",
      "Frame rates:  30 (3)",
      "Frames:       195 (3)",
    ]);
  },
});

Deno.test("checkData() asks for a dataset", async () => {
  await assert.rejects(checkData(parseConfig("model: 2b\noutput_dir: out")), /Add --data_root FOLDER/);
});
