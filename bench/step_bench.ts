/**
 * `deno bench -A bench/step_bench.ts`: whole optimizer steps of a LoRA with random weights, from upload to the loss read back.
 * The share of peak counts all time of the process and the arithmetic of the recorded plans, recomputed blocks included.
 */
import { RELEASED, type TransformerConfig } from "../lib/models/transformer/config.ts";
import { Bench, cpuMilliseconds, median, quantile, type Sample } from "./harness.ts";
import { arithmeticPeak } from "./peaks.ts";
import { prepareStep, type RandomStep } from "./random_step.ts";
import { print } from "./suite.ts";

interface Case {
  readonly name: string;
  readonly model: TransformerConfig;
  readonly resolution: string;
  readonly precision: "no" | "bf16";
}

const tiny = RELEASED["tiny-2b"]!;
const small: TransformerConfig = {
  ...RELEASED["tiny-5b"]!,
  num_attention_heads: 6,
  num_layers: 4,
  text_embed_dim: 512,
};

const CASES: readonly Case[] = [
  { name: "tiny-2b, d 128, 2 layers, f32", model: tiny, resolution: "9x64x96", precision: "no" },
  { name: "rotary, d 384, 4 layers, f32", model: small, resolution: "9x128x192", precision: "no" },
  { name: "rotary, d 384, 4 layers, bf16", model: small, resolution: "9x128x192", precision: "bf16" },
];

const ROUNDS = 7;

const bench = await Bench.open();
const peak = arithmeticPeak(bench);
const rows: string[] = [];

for (const item of CASES) {
  let prepared: RandomStep | undefined;
  const samples: Sample[] = [];
  const shares: number[] = [];
  Deno.bench({
    group: "LoRA step",
    name: item.name,
    n: ROUNDS,
    warmup: 0,
    async fn(b) {
      if (prepared === undefined) {
        const { model, resolution, precision } = item;
        const settings = { train_resolution: resolution, mixed_precision: precision, rank: 64, model: "tiny-5b" };
        prepared = await prepareStep(bench, { model, settings });
        await prepared.run();
      }
      const [clock, used] = [performance.now(), cpuMilliseconds()];
      b.start();
      await prepared.run();
      b.end();
      const sample = { wall: performance.now() - clock, cpu: cpuMilliseconds() - used };
      const ceiling = await bench.sample(peak);
      samples.push(sample);
      shares.push(prepared.flops / sample.cpu / (peak.flops / ceiling.cpu));
      if (samples.length === ROUNDS) rows.push(describe(item, prepared, samples, shares));
    },
  });
}

function describe({ name }: Case, prepared: RandomStep, samples: readonly Sample[], shares: readonly number[]): string {
  const { flops, dispatches, tokens, gpuBytes } = prepared;
  const wall = samples.map((sample) => sample.wall / 1000);
  const rate = flops / 1e6 / median(samples.map((sample) => sample.cpu));
  const seconds = `${median(wall).toFixed(2)} s (${quantile(wall, 0).toFixed(2)}-${Math.max(...wall).toFixed(2)})`;
  const work = `${tokens} tokens, ${(flops / 1e9).toFixed(1)} GF, ${dispatches} dispatches, ${
    (gpuBytes / 2 ** 20).toFixed(0)
  } MiB`;
  return `| ${name} | ${work} | ${seconds} | ${rate.toFixed(1)} GF/s | ${(100 * median(shares)).toFixed(0)} % |`;
}

globalThis.addEventListener("unload", () => {
  print(`\n${bench.device.adapter.description}, subgroups of ${bench.device.target.subgroups}`);
  print("| LoRA step, rank 64 | work | by the clock: median (min-max) | per core-second | of peak |");
  print(["|---|---|---|---|---|", ...rows].join("\n"));
});
