/**
 * `deno bench -A bench/step_bench.ts`: whole optimizer steps of a LoRA with random weights, from upload to the loss read back.
 * The share of peak counts all time of the process and the arithmetic of the recorded plans, recomputed blocks included.
 */
import { Session } from "../lib/gpu/session.ts";
import { encodeF32, type StorageType } from "../lib/io/safetensors/half.ts";
import { RELEASED, type TransformerConfig } from "../lib/models/transformer/config.ts";
import { uploadTables } from "../lib/models/transformer/inputs.ts";
import { cost } from "../lib/plan/recording.ts";
import { parseConfig } from "../lib/config/config.ts";
import { describeRun } from "../lib/step/run_description.ts";
import { type MicroBatch, recordStep, TrainingStep } from "../lib/step/training_step.ts";
import { Bench, cpuMilliseconds, median, quantile, type Sample } from "./harness.ts";
import { arithmeticPeak } from "./peaks.ts";
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

/** A step ready to be repeated. */
interface Prepared extends Disposable {
  readonly flops: number;
  readonly dispatches: number;
  readonly tokens: number;
  readonly gpuBytes: number;
  run(): Promise<void>;
}

/** Columns that adapters are scaled for. */
const WIDTH_OF_ADAPTERS = 384;

/**
 * Uniform numbers of deviation 1 / sqrt(width), which keeps activations near one. Wider ones saturate every softmax, and the
 * subnormal numbers that come of it make a step three times as slow on llvmpipe.
 */
function uniform(size: number, width: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: size }, () => (Math.random() - 0.5) * Math.sqrt(12 / width));
}

/** Norm weights of one, biases of zero. */
function constant(name: string, size: number): Float32Array<ArrayBuffer> {
  return new Float32Array(size).fill(name.endsWith(".weight") ? 1 : 0);
}

function prepare(bench: Bench, { model, resolution, precision }: Case): Prepared {
  const overrides = { train_resolution: resolution, mixed_precision: precision, rank: 64, model: "tiny-5b" };
  const run = describeRun(parseConfig("", { overrides }), model);
  const session = new Session(bench.device);
  const recording = recordStep(bench.device.target, session.limits, run.step, run.parameters, run.trainables.buckets);
  for (const [name, tensor] of run.uploads) {
    const start = tensor.shape.length > 1 ? uniform(tensor.size, tensor.width) : constant(name, tensor.size);
    session.write(tensor, encodeF32(start, tensor.dtype as StorageType));
  }
  for (const { values, copy } of run.trainables.buckets) {
    const start = uniform(values.size, WIDTH_OF_ADAPTERS);
    session.write(values, start);
    if (copy !== undefined) session.write(copy, encodeF32(start, copy.dtype as StorageType));
  }
  uploadTables(session, model, run.step.shape, recording.inputs);
  const step = new TrainingStep(session, run.step, recording, run.trainables.buckets);
  const floats = (size: number) => uniform(size, 1);
  const batch: MicroBatch = {
    latents: floats(recording.clean.size),
    noise: floats(recording.noise.size),
    text: floats(recording.inputs.text.size),
    timesteps: [500],
    alphas: [0.5],
    weights: [1],
  };
  const [micro, update] = [cost(recording.micro), cost(recording.update)];
  const { frames, height, width, textRows } = run.step.shape;
  let count = 0;
  return {
    flops: micro.flops + update.flops,
    dispatches: micro.launches + update.launches,
    tokens: textRows + frames * height * width / model.patch_size ** 2,
    gpuBytes: session.allocatedBytes,
    async run() {
      step.begin();
      await step.micro(batch);
      await step.update(1e-5, ++count);
    },
    [Symbol.dispose]() {
      step[Symbol.dispose]();
      session[Symbol.dispose]();
    },
  };
}

const bench = await Bench.open();
const peak = arithmeticPeak(bench);
const rows: string[] = [];

for (const item of CASES) {
  let prepared: Prepared | undefined;
  const samples: Sample[] = [];
  const shares: number[] = [];
  Deno.bench({
    group: "LoRA step",
    name: item.name,
    n: ROUNDS,
    warmup: 0,
    async fn(b) {
      if (prepared === undefined) {
        prepared = prepare(bench, item);
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

function describe({ name }: Case, prepared: Prepared, samples: readonly Sample[], shares: readonly number[]): string {
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
