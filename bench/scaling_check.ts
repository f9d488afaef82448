/**
 * The scaling model against runs: 2 and 4 ranks train all weights of a small model, and 1 of them alone in turns with all, so
 * that every figure meets the same disturbances. Exchanges are forecast from the rates that the links had in the same minute.
 * Run: LP_NUM_THREADS=0 deno run -A bench/scaling_check.ts [rounds] [mode ...]
 *
 * On the software adapter ranks are processes that share the cores: N ranks on C cores compute N / C times as long. That factor
 * belongs to the adapter and not to the model, which is about GPUs that are a rank's own.
 */
import type { Communicator } from "../lib/comm/exchange/communicator.ts";
import { withCommunicator } from "../lib/comm/connect.ts";
import { groupVariable } from "../lib/comm/launch/membership.ts";
import { launch } from "../lib/comm/launch/launcher.ts";
import { openDevice } from "../lib/gpu/device.ts";
import { Session } from "../lib/gpu/session.ts";
import { RELEASED, type TransformerConfig } from "../lib/models/transformer/config.ts";
import { uploadTables } from "../lib/models/transformer/inputs.ts";
import { writeValues } from "../lib/models/tensors/weights.ts";
import { parseConfig, type TrainConfig } from "../lib/config/config.ts";
import { createExchange, type GradientExchange } from "../lib/step/exchange.ts";
import { LinkProbe } from "../lib/forecast/link_probe.ts";
import { initialiseOptimizer } from "../lib/optim/update.ts";
import { forecastScaling, type LinkRates, USUAL_LINKS } from "../lib/forecast/scaling.ts";
import { describeRun } from "../lib/step/run_description.ts";
import { refreshCopies, startShard } from "../lib/step/model_state.ts";
import { type MicroBatch, recordStep, type StepRecording, TrainingStep } from "../lib/step/training_step.ts";
import { engine } from "../tests/engine.ts";
import { median, quantile } from "./harness.ts";

const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

/** 55 MB of gradients, in buckets of 13 MB as a LoRA of rank 128 on the 5B model has. */
const MODEL: TransformerConfig = {
  ...RELEASED["tiny-5b"]!,
  num_attention_heads: 8,
  num_layers: 4,
  time_embed_dim: 64,
  max_text_seq_length: 32,
};

const SETTINGS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  "all-reduce": {},
  "ZeRO-2": { zero_stage: 2 },
  "ZeRO-3": { zero_stage: 3, base_weights: "streamed" },
};

function configOf(mode: string, gpus: number): TrainConfig {
  const base = { model: "tiny-5b", training_type: "sft", mixed_precision: "bf16", train_resolution: "9x32x48" };
  return parseConfig("", { overrides: { ...base, ...SETTINGS[mode], gpus } });
}

/** A run ready to make steps, with made-up weights and data. */
interface Prepared extends Disposable {
  readonly session: Session;
  readonly step: TrainingStep;
  readonly exchange: GradientExchange;
  readonly batch: MicroBatch;
}

async function prepare(communicator: Communicator, config: TrainConfig): Promise<Prepared> {
  const stack = new DisposableStack();
  const device = stack.use(await openDevice({ engine }));
  const session = stack.use(new Session(device));
  const run = describeRun(config, MODEL, { rank: communicator.rank });
  for (const { tensor, of, byteOffset } of run.shard?.aliases ?? []) session.host.alias(tensor, of, byteOffset);
  const recording = recordStep(device.target, session.limits, run.step, run.parameters, run.updated);
  const exchange = createExchange({ session, communicator, run, reduction: "ring", loss: recording.loss });
  const step = stack.use(new TrainingStep(session, run.step, recording, run.trainables.buckets));
  for (const [name, tensor] of run.uploads) {
    const scale = Math.sqrt(12 / tensor.width);
    const values = tensor.shape.length > 1
      ? Float32Array.from({ length: tensor.size }, () => (Math.random() - 0.5) * scale)
      : new Float32Array(tensor.size).fill(name.endsWith(".weight") ? 1 : 0);
    writeValues(session, tensor, values);
  }
  uploadTables(session, MODEL, run.step.shape, recording.inputs);
  await startShard(session, run);
  await initialiseOptimizer(session, run.updated, recording.optimizer);
  await refreshCopies(session, run);
  await exchange.afterUpdate();
  return { session, step, exchange, batch: madeUp(recording), [Symbol.dispose]: () => stack.dispose() };
}

function madeUp({ clean, inputs }: StepRecording): MicroBatch {
  const numbers = (size: number) => Float32Array.from({ length: size }, () => Math.random() - 0.5);
  return {
    latents: numbers(clean.size),
    noise: numbers(clean.size),
    condition: inputs.condition && numbers(inputs.condition.size),
    text: numbers(inputs.text.size),
    timesteps: [500],
    alphas: [0.5],
    weights: [1],
  };
}

/** Samples of one group, seconds. */
interface Samples {
  /** Gradients and update of one rank while the others wait, and of all at once. */
  readonly alone: number[];
  readonly together: number[];
  readonly exchange: number[];
}

/** Takes one sample of everything; a time is that of the slowest rank. */
async function round(communicator: Communicator, run: Prepared, samples: Samples, number: number): Promise<void> {
  const { session, step, exchange, batch } = run;
  const { losses } = step.recording;
  const drain = async () => void await session.read([losses]);
  const timed = async (body: () => Promise<unknown>) => {
    await communicator.barrier();
    const start = performance.now();
    await body();
    return await communicator.agree(Math.round((performance.now() - start) * 1000)) / 1e6;
  };
  const compute = async () => {
    step.begin();
    exchange.begin(communicator.size);
    await step.micro(batch);
    await drain();
  };
  let squares: number | undefined;
  const update = () => step.update(1e-6, number, 1, squares ?? (step.config.optimizer.hostNorm ? 1 : undefined));
  const isFirst = communicator.rank === 0;
  const alone = await timed(async () => void (isFirst && await compute())) +
    await timed(async () => void (isFirst && await update()));
  const wait = await timed(drain);
  const computed = await timed(compute);
  const summed = await timed(async () => {
    squares = await exchange.finish();
    await drain();
  });
  const updated = await timed(update);
  const gathered = await timed(async () => {
    await exchange.afterUpdate();
    await drain();
  });
  // What is timed ends with a wait that training does not make there.
  samples.alone.push(alone - wait);
  samples.together.push(computed + updated - wait);
  samples.exchange.push(summed + gathered - 2 * wait);
}

const format = (samples: readonly number[]) =>
  `${median(samples).toFixed(3)} (${quantile(samples, 0.1).toFixed(3)} to ${quantile(samples, 0.9).toFixed(3)})`;

/** The links that are measured, and what they are in one round or over all. */
type Rates = Pick<LinkRates, "transfer" | "memory" | "staged">;

async function asRank(mode: string, rounds: number): Promise<void> {
  await withCommunicator(async (communicator) => {
    const config = configOf(mode, communicator.size);
    using run = await prepare(communicator, config);
    const probe = new LinkProbe(communicator, run.session);
    const samples: Samples = { alone: [], together: [], exchange: [] };
    const rates: Rates[] = [];
    await round(communicator, run, { alone: [], together: [], exchange: [] }, 1);
    await probe.sample();
    for (let number = 2; number <= rounds + 1; number++) {
      await round(communicator, run, samples, number);
      probe.reset();
      await probe.sample();
      rates.push({ ...USUAL_LINKS, ...probe.rates() });
    }
    if (communicator.rank === 0) print(`| ${row(mode, config, samples, rates).join(" | ")} |`);
  });
  Deno.exit(0);
}

function row(mode: string, config: TrainConfig, samples: Samples, rates: readonly Rates[]): string[] {
  const secondsAt = (links: Rates) =>
    forecastScaling(config, 1, { ...USUAL_LINKS, ...links }, { model: MODEL }).seconds;
  const middle = (name: keyof Rates) => median(rates.map((sample) => sample[name]));
  const usual = { transfer: middle("transfer"), memory: middle("memory"), staged: middle("staged") };
  const [alone, together, exchange] = [samples.alone, samples.together, samples.exchange].map(median);
  const forecast = secondsAt(usual);
  const ratios = rates.map((links, i) => secondsAt(links) / samples.exchange[i]!);
  const percent = (value: number) => `${(100 * value).toFixed(0)} %`;
  return [
    mode,
    String(config.gpus),
    Object.values(usual).map((rate) => (rate / 1e9).toPrecision(2)).join(", "),
    format(samples.alone),
    `${format(samples.together)}, ${(together! / alone!).toFixed(1)} times`,
    format(samples.exchange),
    forecast.toFixed(3),
    percent(forecast / exchange! - 1),
    `${median(ratios).toFixed(2)} (${quantile(ratios, 0.1).toFixed(2)} to ${quantile(ratios, 0.9).toFixed(2)})`,
    `${percent(together! / (together! + exchange!))}, ${percent(together! / (together! + forecast))}`,
  ];
}

const HEADER = [
  "mode",
  "ranks",
  "transfer, memory, staged GB/s",
  "step of one alone, s",
  "of all at once, s",
  "exchange, s",
  "forecast, s",
  "error",
  "forecast / exchange by round",
  "efficiency, forecast",
];

async function asLauncher(rounds: string, modes: readonly string[]): Promise<void> {
  print(`| ${HEADER.join(" | ")} |`);
  print(`|${"---|".repeat(HEADER.length)}`);
  for (const mode of modes) {
    for (const size of [2, 4]) {
      const { cause } = await launch({
        module: new URL(import.meta.url),
        args: [mode, rounds],
        size,
        onLine: ({ text }) => print(text),
      });
      if (cause !== undefined) throw new Error(cause);
    }
  }
}

if (import.meta.main) {
  const [first = "15", ...rest] = Deno.args;
  if (Deno.env.get(groupVariable) !== undefined) await asRank(first, Number(rest[0]));
  else await asLauncher(first, rest.length > 0 ? rest : Object.keys(SETTINGS));
}
