/**
 * `deno run -A tests/parity.ts`: measures how far this implementation is from PyTorch on the full reference set (float64 there,
 * f32 here) and prints Markdown tables. The last column of each is how far PyTorch's own f32 is from its float64.
 */
import { readFileSync } from "node:fs";
import { ddimSteps } from "../lib/diffusion/ddim.ts";
import { dpmSteps } from "../lib/diffusion/dpm.ts";
import { Session } from "../lib/gpu/session.ts";
import { decodeF32 } from "../lib/io/safetensors/half.ts";
import { readLora } from "../lib/models/lora/read.ts";
import { mergeLora } from "../lib/models/lora/merge_into_weights.ts";
import { openModelFolder } from "../lib/models/folder/model_folder.ts";
import { openTransformer } from "../lib/models/transformer/file.ts";
import { loadTransformer } from "../lib/sample/load_transformer.ts";
import type { OptimizerConfig } from "../lib/optim/update.ts";
import { compareTokens } from "./data/text/tokenizer_case.ts";
import { scheduleError, SCHEDULER_CASES, schedulerError } from "./diffusion/scheduler_golden.ts";
import { relativeL2, testDevice } from "./kernels/run.ts";
import { Golden } from "./models/golden.ts";
import { runTextEncoder } from "./models/t5/case.ts";
import { forwardDistances, gradientDistances, runTransformer, worst } from "./models/transformer/case.ts";
import { runVae } from "./models/vae/case.ts";
import { referenceFolder } from "./reference.ts";
import { replay } from "./sample/replay.ts";
import { NAMES, Updater } from "./optim/fixture.ts";
import { repeatTraining } from "./step/training_case.ts";

interface Noise {
  readonly rel_l2: number | null;
}

interface Case {
  readonly file: string;
  readonly noise_f32_vs_f64: Readonly<Record<string, Noise>>;
  readonly update_noise?: { readonly rel_l2_of_update: number };
}

const VARIANTS = ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"];
const VAE_FILES = [
  ...["1x32x48", "5x16x40", "8x24x16", "9x32x32", "17x32x48", "33x16x24", "49x16x16"].map((size) => `5b-${size}`),
  ...["5b-i2v-9x32x32", "5b-i2v-17x32x48", "image-5b-i2v", "image-1.5-5b-i2v", "tiled-0", "tiled-1"],
];
const OPTIMIZERS: Readonly<Record<string, Partial<OptimizerConfig>>> = {
  "adamw-wd": { optimizer: "adamw", weight_decay: 0.1 },
  "adam-wd": { optimizer: "adam", weight_decay: 0.1 },
  "prodigy": { optimizer: "prodigy" },
  "came": { optimizer: "came" },
};

if (referenceFolder === undefined) throw new Error("the reference set is not beside this checkout");
const folder: string = referenceFolder;
const cases: readonly Case[] = JSON.parse(readFileSync(`${folder}/index.json`, "utf8")).cases;

/** PyTorch's own f32 error: the largest over the tensors of these files whose names match. */
function noise(files: readonly string[], pattern: RegExp): number {
  return Math.max(
    ...cases.filter(({ file }) => files.includes(file)).flatMap((entry) =>
      Object.entries(entry.noise_f32_vs_f64).map(([name, { rel_l2 }]) => pattern.test(name) ? rel_l2 ?? 0 : 0)
    ),
  );
}

function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

const show = (error: number) => error === 0 ? "0" : error.toExponential(1);

function table(header: readonly string[], rows: readonly (readonly string[])[]): void {
  const texts = [header, header.map(() => "---"), ...rows];
  print("\n" + texts.map((cells) => `| ${cells.join(" | ")} |`).join("\n"));
}

async function transformerTable(): Promise<void> {
  const rows: string[][] = [];
  for (const variant of VARIANTS) {
    const pipeline = `${folder}/pipelines/tiny-${variant}`;
    const files = [`transformer/${variant}.safetensors`, `transformer/${variant}.long.safetensors`];
    const errors = { output: 0, inner: 0, gradient: 0 };
    for (const file of files) {
      using golden = new Golden(`${folder}/${file}`);
      using expected = new Golden(`${folder}/transformer/${variant}.grads.safetensors`);
      const result = await runTransformer(pipeline, golden);
      const [output, ...inner] = forwardDistances(result, golden);
      const gradients = gradientDistances(result, golden, file === files[0] ? expected : undefined);
      errors.output = Math.max(errors.output, output!.error);
      errors.inner = Math.max(errors.inner, ...inner.map(({ error }) => error));
      errors.gradient = Math.max(errors.gradient, ...gradients.map(({ error }) => error));
    }
    const grads = `transformer/${variant}.grads.safetensors`;
    const ofPyTorch = `${show(noise(files, /^output/))}, ${show(noise([grads], /worst/))}`;
    rows.push([variant, show(errors.output), show(errors.inner), show(errors.gradient), ofPyTorch]);
  }
  table(
    [
      "transformer",
      "output (<= 1e-5)",
      "blocks (<= 1e-5)",
      "worst gradient (<= 1e-4)",
      "PyTorch f32: output, gradient",
    ],
    rows,
  );
}

async function trainingTable(): Promise<void> {
  const rows: string[][] = [];
  for (const variant of VARIANTS) {
    for (const kind of ["lora-r4", "lora-r8", "sft"]) {
      const name = `training/${variant}.${kind}`;
      const final = kind === "sft" ? `${name}.final.safetensors` : undefined;
      const run = await repeatTraining(
        `${folder}/pipelines/tiny-${variant}`,
        `${folder}/${name}.safetensors`,
        final && `${folder}/${final}`,
      );
      const update = cases.find(({ file }) => file === (final ?? `${name}.safetensors`))!.update_noise;
      rows.push([
        `${variant} ${kind}`,
        show(run.loss),
        show(run.gradientNorm),
        show(run.final),
        update === undefined ? "" : show(update.rel_l2_of_update),
      ]);
    }
  }
  table(
    [
      "12 steps of training",
      "worst loss (<= 2e-5)",
      "worst gradient norm (<= 1e-4)",
      "final tensors, of the update (<= 2e-4)",
      "PyTorch f32: final",
    ],
    rows,
  );
}

/** Largest error of merged attention weights. */
function fusedError(variant: string, strength: number): number {
  using golden = new Golden(`${folder}/lora/${variant}.safetensors`);
  using base = openTransformer(`${folder}/pipelines/tiny-${variant}`);
  const lora = readLora(`${folder}/lora/${variant}`);
  const prefix = `plain.fused${strength.toFixed(1)}.`;
  const tensors = mergeLora(base.source, lora.modules, { strength }).filter(({ name }) => golden.has(prefix + name));
  return Math.max(...tensors.map(({ name, data }) => {
    const [piece] = [...(data as () => Iterable<Uint8Array<ArrayBuffer>>)()];
    return relativeL2(decodeF32(piece!, "f32"), golden.f32(prefix + name));
  }));
}

/** Largest error of parameters over 20 steps. */
async function optimizerError(name: string, config: Partial<OptimizerConfig>): Promise<number> {
  using golden = new Golden(`${folder}/optim/${name}.safetensors`);
  const at = (prefix: string, step: number) => (tensor: string) => {
    const all = golden.f32(`${prefix}.${tensor}`);
    return all.slice(step * all.length / 20, (step + 1) * all.length / 20);
  };
  using updater = await Updater.start(config, (tensor) => golden.f32(`param0.${tensor}`));
  let largest = 0;
  for (const [step, learningRate] of golden.f64("lr").entries()) {
    await updater.step(at("grads", step), { learningRate, step: step + 1 });
    for (const tensor of NAMES) {
      largest = Math.max(largest, relativeL2(await updater.master(tensor), at("params", step)(tensor)));
    }
  }
  return largest;
}

/** Largest error of latents after any step of the stored runs of a variant. */
async function samplingError(variant: string, kinds: readonly string[]): Promise<number> {
  const { device } = await testDevice();
  using session = new Session(device);
  using model = await loadTransformer(session, openModelFolder(`${folder}/pipelines/tiny-${variant}`));
  let largest = 0;
  for (const kind of kinds) {
    const { latents, expected } = await replay(model, folder, variant, kind);
    largest = Math.max(largest, ...expected.map((values, i) => relativeL2(latents[i]!, values)));
  }
  return largest;
}

async function otherTable(): Promise<void> {
  const rows: string[][] = [];
  const add = (what: string, error: number, bound: string, ofPyTorch?: number) =>
    rows.push([what, show(error), bound, ofPyTorch === undefined ? "" : show(ofPyTorch)]);
  const text = ["2b", "5b"].map((name) => `text/t5-${name}.safetensors`);
  const embeddings = await Promise.all(
    text.map((file, i) => runTextEncoder(`${folder}/pipelines/tiny-${["2b", "5b"][i]}`, `${folder}/${file}`)),
  );
  add("T5: embeddings of 12 prompts, all blocks", worst(embeddings.flat()).error, "1e-5", noise(text, /./));
  const vae = [];
  for (const name of VAE_FILES) vae.push(...await runVae(`${folder}/pipelines`, `${folder}/vae/${name}.safetensors`));
  const vaeFiles = VAE_FILES.map((name) => `vae/${name}.safetensors`);
  for (const what of ["mean", "logvar", "sample", "decoded"]) {
    const error = worst(vae.filter((distance) => distance.what === what)).error;
    add(`VAE: ${what}, ${VAE_FILES.length} cases, 2 of them tiled`, error, "1e-5", noise(vaeFiles, new RegExp(what)));
  }
  const tokens = compareTokens(`${folder}/pipelines/tiny-2b/tokenizer`, `${folder}/text/tokenizer.json`);
  add(`tokenizer: prompts with other ids, of ${tokens.prompts}`, tokens.wrong.length, "0");
  add("noise schedules, 2 x 1000 alphas", scheduleError(`${folder}/schedulers/tables.safetensors`), "1e-12");
  for (const [kind, stepsOf] of [["ddim", ddimSteps], ["dpm", dpmSteps]] as const) {
    const errors = SCHEDULER_CASES.map((run) => schedulerError(folder, kind, run, stepsOf));
    add(`${kind} steps in float64, ${errors.length} runs`, Math.max(...errors), "1e-12");
  }
  const kinds = ["ddim", "dpm", "ddim.dynamic", "dpm.dynamic"];
  for (const variant of VARIANTS) {
    const files = kinds.map((kind) => `sampling/${variant}.${kind}.safetensors`);
    add(`sampling ${variant}: latents, 4 runs`, await samplingError(variant, kinds), "1e-5", noise(files, /^latents/));
  }
  const fused = ["5b", "1.5-5b-i2v"].flatMap((variant) => [1, 0.5].map((strength) => fusedError(variant, strength)));
  const loraFiles = ["5b", "1.5-5b-i2v"].map((variant) => `lora/${variant}.safetensors`);
  add("LoRA: merged weights", Math.max(...fused), "3e-8", noise(loraFiles, /^plain\.fused/));
  for (const [name, config] of Object.entries(OPTIMIZERS)) {
    add(`${name}: parameters over 20 steps`, await optimizerError(name, config), "1e-6");
  }
  table(["what", "largest error", "bound", "PyTorch f32"], rows);
}

const { device } = await testDevice();
print(`Relative L2 over whole tensors, f32 on ${device.adapter.description}, against PyTorch in float64.`);
await transformerTable();
await trainingTable();
await otherTable();
Deno.exit(0);
