/** The page of a run in a real browser: Chromium, where it is installed; a suite of `deno task test:full`. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../../../lib/config/config.ts";
import { RunRecords } from "../../../lib/train/report/run_records.ts";

const CHROMIUM = "/usr/bin/chromium";

const QUIET =
  "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --virtual-time-budget=1000";

const HOSTILE = `</script><img src=x onerror="document.title='broken'">`;

/** Opens the page of `folder` and returns what `action` prints. */
async function browse(folder: string, action: readonly string[]): Promise<string> {
  const profile = `--user-data-dir=${join(folder, "profile")}`;
  const args = [...QUIET.split(" "), profile, ...action, `file://${folder}/index.html`];
  const { stdout } = await new Deno.Command(CHROMIUM, { args, stderr: "null" }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test({
  name: "Chromium draws the page of a run from disk, at desktop and phone width (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL") || !existsSync(CHROMIUM),
  fn: async () => {
    const folder = mkdtempSync(join(tmpdir(), "cogtune-browser-"));
    try {
      const config = parseConfig("", { overrides: { preset: "2b-lora", output_dir: folder } });
      {
        using records = new RunRecords(config, 0);
        await records.write({ type: "warning", message: HOSTILE });
        for (const step of [0, 2, 4]) {
          const path = join(folder, `validation_res/${step}.mp4`);
          await records.write({ type: "sample", step, prompt: HOSTILE, path, seconds: 1 });
        }
        const work = { flops: 1, trafficBytes: 1, flopsPerSecond: 1e12, gpuBytes: 2 ** 30 };
        for (const [i, loss] of [4, 1, 3].entries()) {
          const rates = { learningRate: 1e-4, gradNorm: 1, secondsPerStep: 1, epoch: 1, ...work };
          await records.write({ type: "step", step: i + 1, totalSteps: 4, loss, ...rates });
        }
      }
      const dom = await browse(folder, ["--dump-dom"]);
      const body = dom.slice(dom.indexOf("<body>"), dom.indexOf('<script type="application/json"'));
      assert.match(body, /stopped: step 3 of 4/);
      assert.match(body, /<li>&lt;\/script&gt;&lt;img src=x/);
      assert.equal(/<img|<title>broken/.test(dom.replace(/<script[\s\S]*?<\/script>/g, "")), false);
      assert.deepEqual([...body.matchAll(/<video src="([^"]+)"/g)].map(([, source]) => source), [
        "validation_res/0.mp4",
        "validation_res/4.mp4",
      ]);
      // Losses 4, 1 and 3 at equal distances: heights stand as 0 : 3 : 1 below the first.
      const [, points] = /class="curve" points="([^"]+)"/.exec(body)!;
      const [[x1, y1], [x2, y2], [x3, y3]] = points!.split(" ").map((point) => point.split(",").map(Number)) as [
        [number, number],
        [number, number],
        [number, number],
      ];
      assert.ok(Math.abs((x2 - x1) - (x3 - x2)) < 0.2);
      assert.ok(Math.abs((y2 - y1) - 3 * (y3 - y1)) < 0.4);
      for (const width of [390, 1280]) {
        const picture = join(folder, `${width}.png`);
        await browse(folder, [`--screenshot=${picture}`, `--window-size=${width},844`]);
        assert.ok(statSync(picture).size > 10_000, "something is drawn");
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
});
