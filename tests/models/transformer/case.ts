/** Runs a stored transformer case with every parameter trainable, and measures how far each result is from the stored one. */
import { Executable } from "../../../lib/gpu/executable.ts";
import { Session } from "../../../lib/gpu/session.ts";
import { declareTensors, Parameters } from "../../../lib/models/transformer/parameters.ts";
import { cropPositions, slicePositions, tokenGrid } from "../../../lib/models/transformer/positions.ts";
import { transformer, type TransformerTrace } from "../../../lib/models/transformer/graph.ts";
import { parameterShapes, positionTableShape, type TransformerConfig } from "../../../lib/models/transformer/config.ts";
import { openTransformer } from "../../../lib/models/transformer/file.ts";
import { declareInputs, uploadTables, uploadTimesteps } from "../../../lib/models/transformer/inputs.ts";
import { uploadTensors } from "../../../lib/models/tensors/weights.ts";
import { Plan } from "../../../lib/plan/plan.ts";
import { finish } from "../../../lib/plan/recording.ts";
import { Tensor } from "../../../lib/plan/tensor.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { type ReferenceCase, referenceCases } from "../../reference.ts";
import type { Golden } from "../golden.ts";
import { gradientOf } from "../../ops/gradients.ts";

/** How far a result is from the reference. */
export interface Distance {
  readonly what: string;
  /** Relative, over the whole tensor. */
  readonly error: number;
}

/** The largest of some distances. */
export function worst(distances: readonly Distance[]): Distance {
  return distances.reduce((a, b) => b.error > a.error || Number.isNaN(b.error) ? b : a);
}

/** The file with the gradients of a case's parameters. */
export function gradientsFile({ file }: ReferenceCase): string | undefined {
  const name = file.replace(/\.safetensors$/, ".grads.safetensors");
  return referenceCases.has(name) ? name : undefined;
}

/** What a case computes. */
export interface TransformerResult {
  readonly config: TransformerConfig;
  /** Output and, where the golden file has them, inner results; block outputs are joint sequences, text first. */
  readonly values: ReadonlyMap<string, Float32Array>;
  /** Of sum(output * g), by parameter and input. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** Computes output and gradients of a golden file with the weights of `model`, a pipeline or transformer folder. */
export async function runTransformer(model: string, golden: Golden): Promise<TransformerResult> {
  const { device } = await testDevice();
  using session = new Session(device);
  using opened = openTransformer(model);
  const { config, source } = opened;
  const tensors = declareTensors(parameterShapes(config), { matrix: "f32", vector: "f32", trainable: true });
  await uploadTensors(session, source, tensors);
  const table = positionTableShape(config);
  const learned = table === undefined ? undefined : source.readF32(table.name);

  const [batch, frames, , height, width] = golden.shape("hidden_states") as [number, number, number, number, number];
  const shape = { batch, frames, height, width, textRows: golden.shape("encoder_hidden_states")[1]! };
  const inputs = declareInputs(config, shape, "f32", { needsGrad: true });
  session.write(inputs.latents, golden.f32("hidden_states"));
  session.write(inputs.text, golden.f32("encoder_hidden_states"));
  const grid = tokenGrid(config, frames, height, width);
  // Sampling with CogVideoX 1.0 crops and resizes the grid of its base size; everything else counts from zero.
  const crop = golden.config.rotary_grid === "crop-and-resize";
  const positions = crop ? cropPositions(config, grid) : slicePositions(grid);
  uploadTables(session, config, shape, inputs, { learned, positions });
  uploadTimesteps(session, inputs, golden.integers("timestep"));

  const plan = new Plan({ target: device.target });
  const trace: TransformerTrace = { blocks: [] };
  const output = transformer(plan, config, new Parameters(tensors), inputs, "f32", trace);
  const g = new Tensor("g", output.shape, "f32", { resident: true });
  session.write(g, golden.f32("g"));
  plan.backward(output, g);
  const wanted = new Map<string, Tensor>([["output", output]]);
  if (golden.has("temb")) {
    wanted.set("temb", trace.conditioning!).set("patch_embed", trace.embedded!).set("norm_out", trace.normalised!);
    trace.blocks.forEach((block, i) => wanted.set(`block.${i}`, block));
  }
  const gradients = new Map<string, Tensor>([
    ["hidden_states", gradientOf(plan, inputs.latents)],
    ["encoder_hidden_states", gradientOf(plan, inputs.text)],
  ]);
  for (const [name, tensor] of tensors) gradients.set(name, tensor.gradient!);
  for (const tensor of [...wanted.values(), ...gradients.values()]) plan.output(tensor);

  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
  const read = async (map: ReadonlyMap<string, Tensor>) => {
    const arrays = await executable.read([...map.values()]);
    return new Map([...map.keys()].map((name, i) => [name, new Float32Array(arrays[i]!)]));
  };
  return { config, values: await read(wanted), gradients: await read(gradients) };
}

/** Distances of output and inner results. */
export function forwardDistances({ values }: TransformerResult, golden: Golden): Distance[] {
  return [...values].map(([name, value]) => {
    const stored = name.startsWith("block.") ? jointSequence(golden, name) : golden.f32(name);
    return { what: name, error: relativeL2(value, stored) };
  });
}

/** A stored block output as the sequence the block computes: per sample text rows, then video rows. */
function jointSequence(golden: Golden, block: string): Float32Array {
  const [text, video] = [golden.f32(`${block}.text`), golden.f32(`${block}.video`)];
  const batch = golden.shape(`${block}.text`)[0]!;
  const part = (values: Float32Array, b: number) =>
    values.subarray(b * values.length / batch, (b + 1) * values.length / batch);
  return Float32Array.from(Array.from({ length: batch }, (_, b) => [...part(text, b), ...part(video, b)]).flat());
}

/**
 * Distances of the gradients of inputs and, given the file that stores them, of parameters: elements, and the norm of the
 * whole tensor. Stored gradients of big tensors may hold every eighth row only.
 */
export function gradientDistances(
  { config, gradients }: TransformerResult,
  golden: Golden,
  expected?: Golden,
): Distance[] {
  const distances: Distance[] = [];
  for (const [name, value] of gradients) {
    if (golden.has(`grad_input.${name}`)) {
      distances.push({ what: `gradient of ${name}`, error: relativeL2(value, golden.f32(`grad_input.${name}`)) });
    }
    // Without rotary positions a constant added to every key changes nothing: the exact gradient is zero.
    const isZero = !config.use_rotary_positional_embeddings && name.endsWith("norm_k.bias");
    if (expected === undefined || isZero || !expected.has(`grad.${name}`)) continue;
    const stored = expected.f32(`grad.${name}`);
    const error = relativeL2(takeRows(value, stored.length, expected.shape(`grad.${name}`)[0]!), stored);
    distances.push({ what: `gradient of ${name}`, error });
    const norm = Math.sqrt(value.reduce((sum, x) => sum + x * x, 0));
    const expectedNorm = expected.f64(`norm.${name}`)[0]!;
    distances.push({ what: `norm of the gradient of ${name}`, error: Math.abs(norm / expectedNorm - 1) });
  }
  return distances;
}

/** Rows 0, 8, 16, ... of `values` where only `length` of its elements, in `rows` rows, are stored. */
export function takeRows(values: Float32Array, length: number, rows: number): Float32Array {
  if (values.length === length) return values;
  const width = length / rows;
  return Float32Array.from({ length }, (_, i) => values[Math.floor(i / width) * 8 * width + i % width]!);
}
