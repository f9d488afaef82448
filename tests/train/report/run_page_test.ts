import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../../../lib/config/config.ts";
import { readPageData } from "../../../lib/io/html_page.ts";
import type { StepEvent } from "../../../lib/train/report/events.ts";
import { type PageFigures, RunFigures, thin } from "../../../lib/train/report/page/figures.ts";
import { readRunPage } from "../../../lib/train/report/page/page_data.ts";
import { RunPage } from "../../../lib/train/report/page/run_page.ts";
import { RunRecords } from "../../../lib/train/report/run_records.ts";

function stepEvent(step: number, changes: Partial<StepEvent> = {}): StepEvent {
  const work = { flops: 3e12, trafficBytes: 2e9, flopsPerSecond: 1.5e12 };
  const rates = { learningRate: 1e-4, secondsPerStep: 2, epoch: 0.1, gpuBytes: 2 ** 29, ...work };
  return { type: "step", step, totalSteps: 100, loss: 0.5, gradNorm: 1, ...rates, ...changes };
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-page-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const configOf = (output_dir: string) => parseConfig("", { overrides: { preset: "2b-lora", output_dir } });

const htmlIn = (folder: string) => readFileSync(join(folder, "index.html"), "utf8");

const dataIn = (folder: string) => readPageData(htmlIn(folder)) as PageFigures & { state: string; written: number };

function curve({ charts }: Pick<PageFigures, "charts">, title: string, name: string) {
  return charts.find((chart) => chart.title === title)?.curves.find((curve) => curve.name === name)?.points;
}

Deno.test("thin() keeps lowest and highest of every bucket", () => {
  const steps = Array.from({ length: 10_000 }, (_, i) => i + 1);
  const points = thin(steps, steps.map((step) => step === 7777 ? 9 : step === 123 ? -4 : 1 / step), 50);
  assert.ok(points.length <= 100);
  assert.deepEqual(points.find(([step]) => step === 7777), [7777, 9]);
  assert.deepEqual(points.find(([step]) => step === 123), [123, -4]);
  assert.deepEqual(points.map(([step]) => step), points.map(([step]) => step).toSorted((a, b) => a - b));
  assert.deepEqual(thin([3, 4], [1 / 3, 2]), [[3, 0.33333], [4, 2]]);
});

Deno.test("RunFigures: smoothed loss, time left, units and ranks by arithmetic", () => {
  const figures = new RunFigures();
  figures.add(stepEvent(1, { loss: 1, peakShare: 0.25 }));
  figures.add(stepEvent(2, { loss: NaN, secondsPerStep: 4 }));
  figures.add(stepEvent(3, { loss: 3, ranks: [{ seconds: 1, gpuBytes: 2 ** 30 }, { seconds: 3, gpuBytes: 2 ** 31 }] }));
  const shown = figures.figures;
  assert.deepEqual(curve(shown, "Loss", "each step"), [[1, 1], [3, 3]]);
  // (0.95 * 1 + 3) / (0.95 + 1), to five digits.
  assert.deepEqual(curve(shown, "Loss", "smoothed"), [[1, 1], [3, 2.0256]]);
  // (2 + 4 + 2) / 3 seconds for each of 97 steps.
  assert.ok(Math.abs(shown.secondsLeft! - 97 * 8 / 3) < 1e-9);
  assert.deepEqual(curve(shown, "Speed", "rank 0"), [[1, 1.5], [2, 1.5], [3, 1.5]]);
  assert.deepEqual(curve(shown, "Share of peak", "of the arithmetic"), [[1, 25]]);
  assert.deepEqual(curve(shown, "GPU memory", "rank 0"), [[1, 0.5], [2, 0.5], [3, 1]]);
  assert.deepEqual(curve(shown, "GPU memory", "rank 1"), [[3, 2]]);
  assert.deepEqual(curve(shown, "Step time", "rank 1 without waiting"), [[3, 3]]);
});

Deno.test("RunFigures: held-out bands, notes and videos", () => {
  const figures = new RunFigures();
  const bands = [{ from: 0, to: 499, loss: 0.1 }, { from: 500, to: 999, loss: 0.3 }];
  figures.add({ type: "heldout", step: 5, loss: 0.2, bands });
  const skip = { reason: "overflow", clip: "a.mp4", timestep: 7, tensor: "norm" } as const;
  figures.add({ type: "skipped", step: 6, ...skip });
  figures.add({ type: "sample", step: 6, prompt: "a kite", path: "/else/run/validation_res/6 %.mp4", seconds: 1 });
  const shown = figures.figures;
  assert.deepEqual(curve(shown, "Held-out loss", "mean"), [[5, 0.2]]);
  assert.deepEqual(curve(shown, "Held-out loss", "timesteps 500-999"), [[5, 0.3]]);
  assert.deepEqual([shown.skips, shown.warnings], [[6], 0]);
  assert.deepEqual(shown.notes, ["Step 6 skipped: overflow in norm, clip a.mp4 at timestep 7"]);
  assert.deepEqual(shown.samples, [{ step: 6, prompt: "a kite", address: "validation_res/6%20%25.mp4" }]);
});

Deno.test("RunFigures: norms of layers at the last checkpoint, memory of phases at the fullest", () => {
  const figures = new RunFigures();
  const saved = { path: "/run/checkpoint-2", bytes: 1, seconds: 1 };
  figures.add({ type: "saved", step: 2, ...saved, updateNorms: { a: 1, b: 3 } });
  figures.add({ type: "saved", step: 4, ...saved, updateNorms: { a: 2, b: 7.00001 } });
  for (const gpuBytes of [5, 9]) figures.add({ type: "memory", phase: "training", gpuBytes, plannedBytes: 8 });
  const shown = figures.figures;
  assert.deepEqual(shown.norms, { step: 4, layers: [["a", 2], ["b", 7]] });
  assert.deepEqual(curve(shown, "LoRA norm", "mean of layers"), [[2, 2], [4, 4.5]]);
  assert.deepEqual(curve(shown, "LoRA norm", "largest layer"), [[2, 3], [4, 7]]);
  assert.deepEqual(shown.memory, [{ phase: "training", used: 9, planned: 8 }]);
});

Deno.test("RunRecords: the page of a continued run has the steps before, and says how the run ended", () =>
  inFolder(async (folder) => {
    {
      using records = new RunRecords(configOf(folder), 0);
      for (const step of [1, 2, 3]) await records.write(stepEvent(step, { loss: step }));
    }
    assert.equal(dataIn(folder).state, "stopped");
    const record = join(folder, "metrics.jsonl");
    // What no event looks like is no reason to refuse the run.
    writeFileSync(record, `{"type":"heldout","step":1}\n${readFileSync(record, "utf8")}`);
    {
      using records = new RunRecords(configOf(folder), 2, { told: [{ type: "warning", message: "it rains" }] });
      await records.write(stepEvent(3, { loss: 7 }));
      assert.equal(dataIn(folder).state, "running");
      const path = join(folder, "checkpoint-3");
      await records.write({ type: "finished", step: 3, seconds: 1, path, interrupted: false });
    }
    const data = dataIn(folder);
    assert.deepEqual(readRunPage(htmlIn(folder)), data, "what is written is read back whole");
    assert.equal(data.state, "finished");
    assert.deepEqual(curve(data, "Loss", "each step"), [[1, 1], [2, 2], [3, 7]]);
    assert.deepEqual(data.notes, ["it rains"]);
  }));

Deno.test("RunPage is not rewritten with every step", () =>
  inFolder(async (folder) => {
    const page = new RunPage(configOf(folder));
    for (const [now, written] of [[10_000, 10_000], [12_000, 10_000], [15_000, 15_000]] as const) {
      await page.write(stepEvent(1), now);
      assert.equal(dataIn(folder).written, written);
    }
    await page.write({ type: "warning", message: "w" }, 15_001);
    assert.equal(dataIn(folder).written, 15_001);
  }));

Deno.test("RunPage takes nothing from elsewhere, and prompts, clips and warnings stay data", () =>
  inFolder(async (folder) => {
    const hostile = `</script><img src=x onerror="alert(1)"><!--<script>`;
    const page = new RunPage(configOf(folder));
    page.add({ type: "warning", message: hostile });
    page.add({ type: "sample", step: 1, prompt: hostile, path: `/run/validation_res/"><b>.mp4`, seconds: 1 });
    await page.write();
    const html = htmlIn(folder);
    assert.equal([...html.matchAll(/<script/g)].length, 2);
    assert.equal([...html.matchAll(/<\/script>/g)].length, 2);
    assert.equal(/<img|<!--|<b>/.test(html.replace(/<script>[\s\S]*/, "")), false);
    assert.equal(/https?:|innerHTML|@import/.test(html.replaceAll("http://www.w3.org/2000/svg", "")), false);
    assert.deepEqual(dataIn(folder).notes, [hostile]);
    assert.equal(dataIn(folder).samples[0]!.prompt, hostile);
  }));

Deno.test("RunRecords: a page that cannot be written is a warning, once", () =>
  inFolder(async (folder) => {
    Deno.mkdirSync(join(folder, "index.html/in the way"), { recursive: true });
    using records = new RunRecords(configOf(folder), 0);
    const [problem, ...others] = await records.write(stepEvent(1));
    assert.match(problem!.message, /page of the run.*index\.html/);
    assert.deepEqual(others, []);
    assert.deepEqual(await records.write({ type: "warning", message: "w" }), []);
    assert.equal(readFileSync(join(folder, "metrics.jsonl"), "utf8").trim().split("\n").length, 2);
  }));
