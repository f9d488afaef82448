/** `data check --html` and `data import`, as they are typed. */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkData } from "../../../lib/cli/commands/data_report.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import { examples, inScratch } from "../../train/runs.ts";
import { cli } from "../fakes.ts";

Deno.test("data import writes lists that give the same samples, without copying a clip", () =>
  inScratch(async (folder) => {
    const foreign = join(folder, "foreign");
    cpSync(join(examples, "clips/videos"), foreign, { recursive: true });
    const rows = [["ball.mp4", "a ball,\nred"], ["cells.mp4", '"quoted" cells']];
    writeFileSync(join(foreign, "metadata.json"), JSON.stringify(rows.map(([video, text]) => ({ video, text }))));
    const to = join(folder, "lists");
    const { code, out: output } = await cli([
      "data",
      "import",
      "--data_root",
      foreign,
      "--to",
      to,
      "--id_token",
      "ohwx ",
    ]);
    assert.equal(code, 0);
    assert.match(output, /^Read 2 samples as table; wrote .*prompts\.txt, .*videos\.txt$/m);
    assert.match(output, /--data_root .*lists --allow_outside true$/m);
    const { items } = await readDataset(to, { allowOutside: true });
    assert.deepEqual(items.map(({ prompt, videoPath }) => [prompt, videoPath]), [
      ["a ball, red", join(foreign, "ball.mp4")],
      ['"quoted" cells', join(foreign, "cells.mp4")],
    ]);
    const before = readFileSync(join(to, "prompts.txt"));
    const again = await cli(["data", "import", "--data_root", foreign, "--to", to]);
    assert.equal(again.code, 2);
    assert.match(again.error, /2 problems\n.*prompts\.txt exists already\n.*videos\.txt exists already/);
    assert.deepEqual(readFileSync(join(to, "prompts.txt")), before);
    assert.ok(!existsSync(join(to, "ball.mp4")));
  }));

Deno.test("data import refuses what lists cannot hold, and asks where to write", () =>
  inScratch(async (folder) => {
    const foreign = join(folder, "foreign");
    cpSync(join(examples, "clips/videos/ball.mp4"), join(foreign, " ball.mp4"));
    writeFileSync(join(foreign, " ball.txt"), "");
    const to = join(folder, "lists");
    const { code, error } = await cli(["data", "import", "--data_root", foreign, "--to", to]);
    assert.equal(code, 2);
    assert.match(error, / ball\.mp4: prompts\.txt cannot hold ""/);
    assert.ok(!existsSync(to));
    assert.match((await cli(["data", "import", "--data_root", foreign])).error, /Add --to FOLDER/);
  }));

Deno.test("the page shows every clip, and what names and prompts hold stays text", () =>
  inScratch(async (folder) => {
    const clips = join(folder, "clips");
    const hostile = `<img src=x onerror=alert(1)> "&'`;
    writeFileSync(join(clips, "prompts.txt"), `${hostile}\nb\nc\nd\n`);
    const config = parseConfig("model: 2b", { overrides: { data_root: clips, train_resolution: "9x64x96" } });
    const html = join(folder, "page.html");
    await checkData(config, html);
    const page = readFileSync(html, "utf8");
    const sheets = [...page.matchAll(/src="data:image\/jpeg;base64,([^"]+)"/g)];
    assert.equal(sheets.length, 4);
    for (const [, base64] of sheets) {
      const bytes = Uint8Array.fromBase64(base64!);
      assert.deepEqual([...bytes.subarray(0, 3)], [0xff, 0xd8, 0xff]);
    }
    assert.ok(!page.includes("<img src=x") && page.includes("&lt;img src=x onerror=alert(1)&gt; &quot;&amp;&#39;"));
    // 9 frames at 8 per second of clips of 17.
    // A crop from 5:3 to 3:2 keeps nine tenths. One word and the end; the first prompt has four words.
    assert.match(page, /160x96, h264, 8\.00 fps, 1\.13 of 2\.13 s used, 10 % of the picture cut away, 2 tokens/);
    assert.match(page, /cut away, 5 tokens/);
    assert.match(page, /4 too short|0 too short/);
  }));

Deno.test("data --help shows every layout", async () => {
  const { out: output } = await cli(["data", "import", "--help"]);
  for (const name of ["collection", "lists", "cogkit", "table", "captions"]) {
    assert.match(output, new RegExp(`^${name}: `, "m"));
  }
});
