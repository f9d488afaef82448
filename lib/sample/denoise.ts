/**
 * From noise to latents: the transformer recorded once, the sampler step recorded once, both replayed for every step.
 *
 * With guidance the default is two runs of batch 1 per step: the activations of a batch of two never exist at once.
 */
import { convert } from "../../kernels/rows/flat.ts";
import type { DType, Target } from "../../kernels/core/kernel.ts";
import { SAMPLER_COEFFICIENTS, samplerStep } from "../../kernels/diffusion/sampler_step.ts";
import type { SamplerStep } from "../diffusion/timesteps.ts";
import { UserError } from "../errors.ts";
import { Executable } from "../gpu/executable.ts";
import type { Session } from "../gpu/session.ts";
import { encodeF32, type StorageType } from "../io/safetensors/half.ts";
import type { Parameters } from "../models/transformer/parameters.ts";
import { cropPositions, slicePositions, tokenGrid } from "../models/transformer/positions.ts";
import { transformer, type TransformerInputs } from "../models/transformer/graph.ts";
import { isImageToVideo, isVersion15, type TransformerConfig } from "../models/transformer/config.ts";
import { type BatchShape, declareInputs, uploadTables, uploadTimesteps } from "../models/transformer/inputs.ts";
import { Plan } from "../plan/plan.ts";
import type { RecordingLimits } from "../plan/limits.ts";
import { finish, type Recording } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";
import type { GuidanceMode } from "./guidance.ts";

/** What a denoiser is recorded for. */
export interface DenoiseConfig {
  readonly model: TransformerConfig;
  /** Latent frames (padding of CogVideoX1.5 included), height, width and tokens of a prompt. */
  readonly shape: Omit<BatchShape, "batch">;
  /** Storage of activations. */
  readonly activation: DType;
  readonly guidance: GuidanceMode;
  /** The sampler adds noise (DPM). */
  readonly stochastic: boolean;
}

/** Tensors and plans, made from shapes alone: what a forecast needs, and what {@linkcode Denoiser} runs. */
export interface DenoiseRecording {
  readonly config: DenoiseConfig;
  readonly inputs: TransformerInputs;
  /** f32 [1, f, 16, h, w]: the latents themselves; with batched guidance copied into both halves of the input. */
  readonly latents: Tensor;
  /** x0 of the step before. */
  readonly before: Tensor;
  /** The model's output, f32 [batch, f, 16, h, w]. */
  readonly velocity: Tensor;
  /** With sequential guidance, the output for the negative prompt and both prompts. */
  readonly sequential: { readonly velocity: Tensor; readonly positive: Tensor; readonly negative: Tensor } | undefined;
  readonly noise: Tensor | undefined;
  readonly coefficients: Tensor;
  readonly model: Recording;
  readonly step: Recording;
}

/** Records the model and the sampler step. */
export function recordDenoise(
  target: Target,
  limits: RecordingLimits,
  config: DenoiseConfig,
  parameters: Parameters,
): DenoiseRecording {
  const { model, activation, guidance, stochastic } = config;
  const batch = guidance === "batched" ? 2 : 1;
  const inputs = declareInputs(model, { ...config.shape, batch }, activation, {
    separateCondition: isImageToVideo(model),
  });
  const resident = (name: string, shape: readonly number[], dtype: DType = "f32") =>
    new Tensor(name, shape, dtype, { resident: true });
  const one = [1, ...inputs.latents.shape.slice(1)];
  const latents = batch === 1 ? inputs.latents : resident("latents of a video", one);
  const velocity = resident("velocity", inputs.latents.shape);

  const plan = new Plan({ target });
  const predicted = transformer(plan, model, parameters, inputs, activation);
  plan.launch(convert({ x: "f32", y: "f32" }, { elements: velocity.size }), [predicted, velocity], [velocity]);

  const before = resident("clean latents", one);
  const noise = stochastic ? resident("sampler noise", one) : undefined;
  const coefficients = resident("sampler coefficients", [SAMPLER_COEFFICIENTS]);
  const sequential = guidance !== "sequential" ? undefined : {
    velocity: resident("negative velocity", one),
    positive: resident("prompt", inputs.text.shape, activation),
    negative: resident("negative prompt", inputs.text.shape, activation),
  };
  const half = (i: number) => velocity.window("velocity", i * latents.size, one);
  const velocities = guidance === "batched"
    ? [half(1), half(0)]
    : [velocity, ...(sequential === undefined ? [] : [sequential.velocity])];
  const step = new Plan({ target });
  step.launch(
    samplerStep({ guided: guidance !== "off", stochastic }, { elements: latents.size }),
    [latents, before, ...velocities, ...(noise === undefined ? [] : [noise]), coefficients],
    [latents, before],
  );
  return {
    config,
    inputs,
    latents,
    before,
    velocity,
    sequential,
    noise,
    coefficients,
    model: finish(plan, limits),
    step: finish(step, limits),
  };
}

/** What one video starts from. All arrays are f32. */
export interface DenoiseInputs {
  /** [f, 16, h, w]: standard normal, or for video to video the noised latents of the video. */
  readonly latents: Float32Array<ArrayBuffer>;
  /** Embedding [tokens, width] of the prompt. */
  readonly prompt: Float32Array<ArrayBuffer>;
  /** Embedding of the negative prompt; needed with guidance. */
  readonly negative?: Float32Array<ArrayBuffer> | undefined;
  /** [f, 16, h, w]: latents of the image in front, zeros behind, for image to video. */
  readonly condition?: Float32Array<ArrayBuffer> | undefined;
  /** Standard normal noise [f, 16, h, w] of a step; needed by DPM. */
  readonly noise?: ((step: number) => Float32Array<ArrayBuffer>) | undefined;
}

/** Options of {@linkcode Denoiser.run}. */
export interface DenoiseOptions {
  /** Guidance scale of every step. */
  readonly scales: readonly number[];
  readonly signal?: AbortSignal | undefined;
}

/** A denoiser bound to a device. Dispose it to free everything but the parameters. */
export class Denoiser implements Disposable {
  readonly #model: Executable;
  readonly #step: Executable;
  /** A learned position table did not fit the number of frames, and sines took its place, as in diffusers. */
  readonly fallback: boolean;

  /** @param learned the stored table of learned positions, for models that have one. */
  constructor(
    readonly session: Session,
    readonly recording: DenoiseRecording,
    learned?: Float32Array<ArrayBuffer>,
  ) {
    const { config, inputs } = recording;
    const { model } = config;
    const shape = { ...config.shape, batch: inputs.latents.shape[0]! };
    const grid = tokenGrid(model, shape.frames, shape.height, shape.width);
    const positions = isVersion15(model) ? slicePositions(grid) : cropPositions(model, grid);
    this.fallback = uploadTables(session, model, shape, inputs, { learned, positions }).fallback;
    this.#model = new Executable(session, recording.model);
    this.#step = new Executable(session, recording.step);
  }

  /**
   * Denoises one video, yielding the number of every finished step; read the latents with {@linkcode read} at any
   * yield.
   *
   * @throws the reason of `signal` when it is aborted.
   */
  async *run(
    steps: readonly SamplerStep[],
    start: DenoiseInputs,
    { scales, signal }: DenoiseOptions,
  ): AsyncGenerator<number, void> {
    const { session } = this;
    const { latents, before, noise, coefficients } = this.recording;
    session.write(latents, start.latents);
    this.#writeConditions(start);
    session.clear([before]);
    for (const [i, step] of steps.entries()) {
      signal?.throwIfAborted();
      await this.#predict(step.timestep);
      const { signal: s, sigma, latents: x, clean, previous, noise: n } = step;
      session.write(coefficients, Float32Array.of(s, sigma, scales[i]!, 0, x, clean, previous, n));
      if (noise !== undefined) session.write(noise, start.noise!(i));
      await this.#step.run();
      // Reading a few bytes waits for the step, so that no more than one is ever queued and an abort takes effect.
      await session.read([coefficients]);
      yield i;
    }
  }

  #writeConditions({ prompt, negative, condition }: DenoiseInputs): void {
    const { session } = this;
    const { inputs, sequential } = this.recording;
    const encoded = (values: Float32Array<ArrayBuffer>) => encodeF32(values, inputs.text.dtype as StorageType);
    if (sequential !== undefined) {
      session.write(sequential.positive, encoded(prompt));
      session.write(sequential.negative, encoded(negative!));
    } else {
      // The halves of a batch: negative first.
      const halves = inputs.text.shape[0] === 2 ? [negative!, prompt] : [prompt];
      halves.map(encoded).forEach((half, i) => session.write(inputs.text, half, i * half.byteLength));
    }
    if (inputs.condition === undefined) return;
    for (let b = 0; b < inputs.condition.shape[0]!; b++) {
      session.write(inputs.condition, condition!, b * condition!.byteLength);
    }
  }

  /** Runs the model on the present latents, once or for both prompts. */
  async #predict(timestep: number): Promise<void> {
    const { session } = this;
    const { inputs, latents, velocity, sequential } = this.recording;
    const batch = inputs.latents.shape[0]!;
    uploadTimesteps(session, inputs, Array.from({ length: batch }, () => timestep));
    if (batch === 2) {
      session.copy(latents, inputs.latents);
      session.copy(latents, inputs.latents, latents.bytes);
    }
    if (sequential !== undefined) {
      session.copy(sequential.negative, inputs.text);
      await this.#model.run();
      session.copy(velocity, sequential.velocity);
      session.copy(sequential.positive, inputs.text);
    }
    await this.#model.run();
  }

  /** The present latents [f, 16, h, w]. */
  async read(): Promise<Float32Array<ArrayBuffer>> {
    return await this.session.readF32(this.recording.latents);
  }

  [Symbol.dispose](): void {
    this.#model[Symbol.dispose]();
    this.#step[Symbol.dispose]();
    const { inputs, latents, before, velocity, sequential, noise, coefficients } = this.recording;
    const { rotary, ...rest } = inputs;
    const tensors = [...Object.values(rest), ...Object.values(rotary ?? {}), ...Object.values(sequential ?? {})];
    for (const tensor of [...tensors, latents, before, velocity, noise, coefficients]) {
      if (tensor !== undefined) this.session.free(tensor as Tensor);
    }
  }
}

/**
 * Checks finished latents.
 *
 * @throws {UserError} when they are not finite, which half precision or a broken adapter brings about.
 */
export function requireFinite(latents: Float32Array, what: string): void {
  if (latents.every(Number.isFinite)) return;
  throw new UserError(
    `Sampling ${what} gave values that are not finite`,
    "use --dtype bf16 or f32 instead of f16, or check the adapters with `lora inspect`",
  );
}
