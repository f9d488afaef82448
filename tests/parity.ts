/**
 * `deno run -A tests/parity.ts`: measures how far this implementation is from PyTorch on the reference set (float64 there, f32 here)
 * and prints Markdown tables. `COGTUNE_REFERENCE=FOLDER` names another set than the one in `golden/`. The last column of each is
 * how far PyTorch's own f32 is from its float64.
 */
import { ddimSteps } from "../lib/diffusion/ddim.ts";
import { dpmSteps } from "../lib/diffusion/dpm.ts";
import { Session } from "../lib/gpu/session.ts";
import { openSafetensors } from "../lib/io/safetensors/safetensors.ts";
import { decodeF32 } from "../lib/io/safetensors/half.ts";
import { readLora } from "../lib/models/lora/read.ts";
import { mergeLora } from "../lib/models/lora/merge_into_weights.ts";
import { openModelFolder } from "../lib/models/folder/model_folder.ts";
import { openTransformer } from "../lib/models/transformer/file.ts";
import { loadTransformer } from "../lib/sample/load_transformer.ts";
import { compareTokens } from "./data/text/tokenizer_case.ts";
import { scheduleError, schedulerCases, schedulerError } from "./diffusion/scheduler_golden.ts";
import { relativeL2, testDevice } from "./kernels/run.ts";
import { Golden } from "./models/golden.ts";
import { type StoredLora, storedLoras } from "./models/lora/stored.ts";
import { runTextEncoder } from "./models/t5/case.ts";
import {
  forwardDistances,
  gradientDistances,
  gradientsFile,
  runTransformer,
  worst,
} from "./models/transformer/case.ts";
import { runVae } from "./models/vae/case.ts";
import { NAMES, Updater } from "./optim/fixture.ts";
import { configurableRuns, optimizerOf, settingsOf, valuesAt } from "./optim/stored.ts";
import { caseName, casesOf, pipelineOf, type ReferenceCase, referenceCases, referencePath } from "./reference.ts";
import { type StoredRuns, storedRuns } from "./sample/golden_pipeline.ts";
import { replay } from "./sample/replay.ts";
import { autocast, hasUnits, mixedCases, repeatMixed } from "./step/mixed_case.ts";
import { finalFile, repeatTraining, trainingCases } from "./step/training_case.ts";

/** PyTorch's own f32 error: the largest over the tensors of these cases whose names match. */
function noise(cases: readonly ReferenceCase[], pattern: RegExp): number {
  return Math.max(
    ...cases.flatMap(({ noise_f32_vs_f64 = {} }) =>
      Object.entries(noise_f32_vs_f64).map(([name, { rel_l2 }]) => pattern.test(name) ? rel_l2 ?? 0 : 0)
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
  for (const [model, cases] of Map.groupBy(casesOf("transformer", "output"), (stored) => stored.config.pipeline)) {
    const errors = { output: 0, inner: 0, gradient: 0 };
    const gradientCases: ReferenceCase[] = [];
    for (const stored of cases) {
      using golden = new Golden(referencePath(stored.file));
      const file = gradientsFile(stored);
      using expected = file === undefined ? undefined : new Golden(referencePath(file));
      if (file !== undefined) gradientCases.push(referenceCases.get(file)!);
      const result = await runTransformer(pipelineOf(stored), golden);
      const [output, ...inner] = forwardDistances(result, golden);
      const gradients = gradientDistances(result, golden, expected);
      errors.output = Math.max(errors.output, output!.error);
      errors.inner = Math.max(errors.inner, ...inner.map(({ error }) => error));
      errors.gradient = Math.max(errors.gradient, ...gradients.map(({ error }) => error));
    }
    const ofPyTorch = `${show(noise(cases, /^output/))}, ${show(noise(gradientCases, /worst/))}`;
    rows.push([`${model}`, show(errors.output), show(errors.inner), show(errors.gradient), ofPyTorch]);
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
  for (const stored of trainingCases()) {
    const { loss, gradientNorm, final } = await repeatTraining(stored);
    const { update_noise } = referenceCases.get(finalFile(stored) ?? stored.file)!;
    const ofPyTorch = update_noise === undefined ? "" : show(update_noise.rel_l2_of_update);
    rows.push([caseName(stored), show(loss), show(gradientNorm), show(final), ofPyTorch]);
  }
  table(
    [
      "training",
      "worst loss (<= 2e-5)",
      "worst gradient norm (<= 1e-4)",
      "final tensors, of the update (<= 2e-4)",
      "PyTorch f32: final",
    ],
    rows,
  );
}

async function mixedTable(): Promise<void> {
  const rows: string[][] = [];
  for (const mixed of mixedCases()) {
    const { stored, activation } = mixed;
    const { loss, gradientNorm, final, skipped } = await repeatMixed(mixed);
    const yardstick = autocast(stored);
    const pairs = [[loss, yardstick.loss], [gradientNorm, yardstick.grad_norm], [final, yardstick.final]] as const;
    const cells = pairs.map((pair) => pair.map((figure) => figure.toExponential(1)).join(", "));
    rows.push([`${caseName(stored)} ${activation}`, ...cells, `${skipped}`]);
  }
  table(["mixed, bf16 autocast", "worst loss", "worst gradient norm", "final", "skipped steps"], rows);
}

/** Largest error of merged attention weights. */
function fusedError({ stored, plain, model }: StoredLora): number {
  using golden = new Golden(referencePath(stored.file));
  using base = openTransformer(model);
  const lora = readLora(plain);
  const fused = golden.names.flatMap((name) => {
    const [, strength, weight] = /^plain\.fused(\d+\.\d+)\.(.*)$/.exec(name) ?? [];
    return weight === undefined ? [] : [{ name, strength: Number(strength), weight }];
  });
  return Math.max(...fused.map(({ name, strength, weight }) => {
    const merged = mergeLora(base.source, lora.modules, { strength }).find((tensor) => tensor.name === weight)!;
    const [piece] = [...(merged.data as () => Iterable<Uint8Array<ArrayBuffer>>)()];
    return relativeL2(decodeF32(piece!, "f32"), golden.f32(name));
  }));
}

/** Largest error of parameters over all steps. */
async function optimizerError(stored: ReferenceCase): Promise<number> {
  using file = openSafetensors(referencePath(stored.file));
  const rates = file.readF32("lr");
  using updater = await Updater.start(optimizerOf(stored), (tensor) => file.readF32(`param0.${tensor}`));
  let largest = 0;
  for (let step = 0; step < settingsOf(stored).steps; step++) {
    const gradients = (tensor: string) => valuesAt(file, `grads.${tensor}`, step);
    await updater.step(gradients, { learningRate: rates[step]!, step: step + 1 });
    for (const tensor of NAMES) {
      const error = relativeL2(await updater.master(tensor), valuesAt(file, `params.${tensor}`, step));
      largest = Math.max(largest, error);
    }
  }
  return largest;
}

/** Largest error of latents after any step of the stored runs of a kind of model. */
async function samplingError(stored: StoredRuns): Promise<number> {
  const { device } = await testDevice();
  using session = new Session(device);
  using model = await loadTransformer(session, openModelFolder(stored.model));
  let largest = 0;
  for (const run of stored.runs) {
    const { latents, expected } = await replay(model, stored, run);
    largest = Math.max(largest, ...expected.map((values, i) => relativeL2(latents[i]!, values)));
  }
  return largest;
}

async function otherTable(): Promise<void> {
  const rows: string[][] = [];
  const add = (what: string, error: number, bound: string, ofPyTorch?: number) =>
    rows.push([what, show(error), bound, ofPyTorch === undefined ? "" : show(ofPyTorch)]);
  const text = casesOf("text", "embeddings");
  const embeddings = [];
  for (const stored of text) embeddings.push(...await runTextEncoder(stored));
  const prompts = embeddings.filter(({ what }) => what.startsWith("prompt")).length;
  add(`T5: embeddings of ${prompts} prompts, all blocks`, worst(embeddings).error, "1e-5", noise(text, /./));
  const vaeCases = casesOf("vae", "logvar").filter(({ config }) => config.pipeline !== undefined);
  const tiled = vaeCases.filter(({ config }) => config.tile_sample_min_height !== undefined).length;
  const vae = [];
  for (const stored of vaeCases) vae.push(...await runVae(stored));
  for (const what of ["mean", "logvar", "sample", "decoded"]) {
    const error = worst(vae.filter((distance) => distance.what === what)).error;
    const ofPyTorch = noise(vaeCases, new RegExp(what));
    add(`VAE: ${what}, ${vaeCases.length} cases, ${tiled} of them tiled`, error, "1e-5", ofPyTorch);
  }
  const tokens = compareTokens();
  add(`tokenizer: prompts with other ids, of ${tokens.prompts}`, tokens.wrong.length, "0");
  const schedules = scheduleError();
  add(`noise schedules, ${schedules.count} x 1000 alphas`, schedules.error, "1e-12");
  for (const [kind, stepsOf] of [["ddim", ddimSteps], ["dpm", dpmSteps]] as const) {
    const errors = schedulerCases(kind).map((run) => schedulerError(run, stepsOf));
    add(`${kind} steps in float64, ${errors.length} runs`, Math.max(...errors), "1e-12");
  }
  for (const stored of storedRuns()) {
    const what = `sampling ${stored.variant}: latents, ${stored.runs.length} runs`;
    add(what, await samplingError(stored), "1e-5", noise(stored.runs, /^latents/));
  }
  const loras = storedLoras();
  const fused = Math.max(...loras.map(fusedError));
  add("LoRA: merged weights", fused, "3e-8", noise(loras.map(({ stored }) => stored), /^plain\.fused/));
  for (const stored of configurableRuns()) {
    add(`${caseName(stored)}: parameters over ${settingsOf(stored).steps} steps`, await optimizerError(stored), "1e-6");
  }
  table(["what", "largest error", "bound", "PyTorch f32"], rows);
}

const { device } = await testDevice();
print(`Relative L2 over whole tensors, f32 on ${device.adapter.description}, against PyTorch in float64.`);
await transformerTable();
await trainingTable();
if (hasUnits) await mixedTable();
await otherTable();
Deno.exit(0);
