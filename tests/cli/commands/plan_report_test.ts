/** The lines of `cogtune plan`, and the search for switches that fit. */
import assert from "node:assert/strict";
import { parseMemory, planOptions } from "../../../lib/cli/commands/plan_command.ts";
import { planReport } from "../../../lib/cli/commands/plan_report.ts";
import { UserError } from "../../../lib/errors.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { recordForecast } from "../../../lib/forecast/forecast.ts";
import { fitMemory, requireFits } from "../../../lib/forecast/fit.ts";
import { parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";
import { gpuRates } from "../../../lib/forecast/gpu_rates.ts";
import { formatBytes } from "../../../lib/cli/show/text.ts";

const GIB = 2 ** 30;

Deno.test("the report names phases, what the memory consists of, times and the verdict", async () => {
  const lines = (await planReport(parseConfig("preset: 2b-lora"), { gpu: "RTX 4090" })).lines.join("\n");
  assert.match(lines, /^text encoding +\d/m);
  assert.match(lines, /^training +\d.* step +\d/m);
  // 1,693,783,872 parameters in f16.
  assert.match(lines, /3\.16 GiB {2}frozen weights/);
  assert.match(lines, /fits the 16 GiB of gpu_memory$/);
  assert.match(lines, /RTX 4090/);
});

Deno.test("the verdict says how much is missing", async () => {
  const config = parseConfig("preset: 5b-lora", { overrides: { gpu_memory: 12 } });
  const needed = recordForecast(config).peakBytes;
  const missing = formatBytes(needed - 12 * GIB);
  assert.ok((await planReport(config)).lines.at(-1)!.includes(`${missing} more than the 12 GiB of gpu_memory`));
});

Deno.test("a GPU is known by name or described by its rates", () => {
  assert.deepEqual(gpuRates("RTX 4090"), gpuRates("rtx-4090"));
  assert.deepEqual(gpuRates("10:500:20"), { flopsPerSecond: 1e13, bytesPerSecond: 5e11, linkBytesPerSecond: 2e10 });
  assert.throws(() => gpuRates("voodoo"), /known: .*rtx-4090/);
  assert.throws(() => gpuRates("10:0"), UserError);
});

Deno.test("5b-lora fits 12 GiB, and the fit's own forecast says so", () => {
  const config = parseConfig("preset: 5b-lora");
  const fit = fitMemory(config, 12 * GIB)!;
  assert.ok(fit.gpuBytes <= 12 * GIB);
  assert.equal(recordForecast({ ...config, ...fit.switches }).peakBytes, fit.gpuBytes);
  assert.ok(fit.costs.length > 0);
  for (const { savedBytes } of fit.costs) assert.ok(savedBytes > 0);
});

Deno.test("the flags of plan are taken out of the settings", () => {
  const { options, settings } = planOptions(["preset=5b-lora", "fit=12GiB", "gpu=rtx-4090", "rank=64"]);
  assert.deepEqual(options, { fitBytes: 12 * GIB, gpu: "rtx-4090" });
  assert.deepEqual(settings, ["preset=5b-lora", "rank=64"]);
  assert.equal(parseMemory("24 GB"), 24e9);
  assert.equal(parseMemory("8"), 8 * GIB);
  assert.throws(() => parseMemory("much"), /expected an amount of GPU memory/);
});

Deno.test("several hosts: the flags of links, and a report that says where each rate is from", async () => {
  const words = ["preset=5b-lora", "gpus=8", "hosts=4", "network=0.01", "gpu=h100"];
  const { options, settings } = planOptions(words);
  assert.deepEqual(options, { gpu: "h100", hosts: 4, links: { network: 1e7 } });
  assert.deepEqual(settings, ["preset=5b-lora", "gpus=8"]);
  const text = (await planReport(parseConfig("preset: 5b-lora\ngpus: 8"), options)).lines.join("\n");
  // LoRA of rank 128: 132,120,576 values, 2 x 31 / 32 of which each rank sends.
  const exchanged = 132_120_576 * 4 * 2 * 31 / 32;
  const [, seconds] =
    /32 ranks exchange 977 MiB each per step, 977 MiB from host to host, 1008 MiB between GPU and host: (\S+) s/
      .exec(text)!;
  assert.equal(formatBytes(exchanged), "977 MiB");
  // So slow a network hides everything else but the way over the GPU's link and waits, which are less than a second.
  const overNetwork = exchanged / 1e7;
  assert.ok(Number(seconds) >= overNetwork * 0.995 && Number(seconds) < overNetwork + 1, `${seconds} ${overNetwork}`);
  assert.match(
    text,
    /transfer \S+ \(usual\), memory \S+ \(usual\), staged \S+ \(usual\), network 0\.0100 \(given\)/,
  );
  assert.match(text, /^ {2}h100 +\d.* s +\d+ %$/m);
  assert.deepEqual(planOptions(["links=measured"]).options, { measure: true });
  assert.throws(() => planOptions(["links=fast"]), /--links is "fast": expected measured/);
});

Deno.test("links are measured on this machine, and the report says so", async () => {
  const text = (await planReport(parseConfig("preset: 2b-lora\ngpus: 2"), { measure: true, gpu: "h100" })).lines.join(
    "\n",
  );
  assert.match(
    text,
    /transfer \S+ \(measured\), memory \S+ \(measured\), staged \S+ \(measured\)\n.*measured with 2 processes/,
  );
  assert.doesNotMatch(text, /network/);
});

Deno.test("a fit is reported with what each switch saves and costs", async () => {
  const lines = (await planReport(parseConfig("preset: 5b-lora"), { fitBytes: 12 * GIB })).lines;
  const [, saved] =
    /fastest settings within 12\.0 GiB.*\n.*\n {2}base_weights: streamed +(\S+) GiB less +\d\.\d+ s slower/
      .exec(lines.join("\n"))!;
  // All weights in bf16, of which no more than three of 42 blocks stay on the GPU at a time.
  const sizes = [...parameterShapes(RELEASED["5b"])].map(([name, shape]) => {
    return { bytes: 2 * shape.reduce((a, b) => a * b), inBlock: name.startsWith("transformer_blocks.0.") };
  });
  const sum = (parts: typeof sizes) => parts.reduce((total, { bytes }) => total + bytes, 0) / GIB;
  assert.ok(Number(saved) < sum(sizes) && Number(saved) > sum(sizes) - 3 * sum(sizes.filter((s) => s.inBlock)) - 0.1);
  const none = (await planReport(parseConfig("preset: 5b-lora"), { fitBytes: GIB })).lines;
  assert.match(none.at(-1)!, /^nothing fits 1\.00 GiB/);
});

Deno.test("more memory never makes the fit slower, and nothing fits a megabyte", () => {
  const config = parseConfig("preset: 2b-lora");
  const seconds = [4, 8, 80].map((gib) => fitMemory(config, gib * GIB)!.seconds);
  assert.ok(seconds[0]! >= seconds[1]! && seconds[1]! >= seconds[2]!, `${seconds}`);
  assert.equal(fitMemory(config, 2 ** 20), undefined);
});

Deno.test("a run that does not fit is refused with the switches that help", () => {
  const config = parseConfig("preset: 5b-lora");
  const needs = recordForecast(config);
  requireFits(config, needs, needs.peakBytes);
  assert.throws(
    () => requireFits(config, needs, 12 * GIB),
    /needs \d+\.\d+ GiB of GPU memory for training .*12\.00 GiB are available\nHint: it fits with base_weights: streamed/,
  );
  assert.throws(() => requireFits(config, needs, GIB), /lower train_resolution/);
});
