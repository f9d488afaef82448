/**
 * Videos sampled during training: what the config asks for, prepared once, sampled with the weights on the devices of
 * all ranks.
 */
import { dirname, join, resolve } from "node:path";
import { type Communicator, longPhase } from "../../comm/exchange/communicator.ts";
import { gatherValues } from "../../comm/exchange/gather.ts";
import { VALIDATION_FOLDER } from "../../data/dataset/captions.ts";
import { resolveInside } from "../../data/dataset/paths.ts";
import { readTextList } from "../../data/dataset/text_list.ts";
import { messageOf, UserErrors } from "../../errors.ts";
import type { Device } from "../../gpu/device.ts";
import { Session } from "../../gpu/session.ts";
import type { StorageType } from "../../io/safetensors/half.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { openTransformer } from "../../models/transformer/file.ts";
import { positionTableShape, type TransformerConfig } from "../../models/transformer/config.ts";
import { readPicture } from "../../sample/pictures.ts";
import { SamplePage } from "../../sample/page.ts";
import { type Preparation, prepareRequests } from "../../sample/prepare.ts";
import { checkRequests, describeSettings, type SampleRequest, type SampleSettings } from "../../sample/settings.ts";
import { sampleValidation, validationNames, type ValidationSample } from "../../sample/validate.ts";
import { gpuMemoryLimit, type TrainConfig } from "../../config/config.ts";
import type { SampleEvent, WarningEvent } from "../report/events.ts";
import type { RunDescription } from "../../step/run_description.ts";

/**
 * The requests of a config, read and, as far as the model is known, checked; none without `do_validation`. Paths in the
 * lists follow the rule of datasets: relative to the list, and out of its folder only with `allow_outside`.
 *
 * @throws {UserErrors} naming every problem.
 */
export async function readValidation(
  config: TrainConfig,
  transformer: TransformerConfig | undefined,
): Promise<SampleRequest[]> {
  const { do_validation, validation_dir: folder } = config;
  // A config that is to validate and names no folder is refused by its own rules.
  if (!do_validation || folder === undefined) return [];
  const problems: string[] = [];
  const list = async (file: string | undefined) => {
    if (file === undefined) return undefined;
    const path = resolve(folder, file);
    const entries = await readTextList(path, path, problems);
    return entries?.map(({ text, line }) => ({ entry: text, base: dirname(path), where: `${path} line ${line}` }));
  };
  const prompts = await list(config.validation_prompts) ?? [];
  const images = config.model_type === "i2v" ? await list(config.validation_images) : undefined;
  if (images !== undefined && images.length !== prompts.length) {
    problems.push(`${prompts.length} validation prompts but ${images.length} validation images`);
  }
  const pictures: (string | undefined)[] = [];
  for (const image of images ?? []) {
    pictures.push(await resolveInside(folder, image, problems, config.allow_outside));
  }
  if (problems.length > 0) {
    throw new UserErrors(
      "Cannot validate",
      problems,
      "mend the lists that validation_prompts and validation_images name",
    );
  }
  const requests = await Promise.all(prompts.map(async ({ entry }, i) => ({
    prompt: entry,
    seed: config.seed,
    ...(images === undefined ? {} : { image: await readPicture(pictures[i]!) }),
  })));
  if (transformer !== undefined) checkRequests(transformer, settingsOf(config), requests);
  return requests;
}

function settingsOf(config: TrainConfig): SampleSettings {
  const [frames, height, width] = config.train_resolution;
  return {
    frames,
    height,
    width,
    sampler: config.sampler,
    steps: config.num_inference_steps,
    guidance: config.guidance_scale,
    dynamic: config.use_dynamic_cfg,
    strength: 1,
    tiling: config.enable_tiling,
    batched: false,
  };
}

/** What one rank made of its prompt in a round. */
interface Outcome {
  /** With the seconds of denoising, decoding and writing. */
  readonly sample?: ValidationSample & { readonly seconds: number };
  readonly failure?: string;
  /** The run is being ended. */
  readonly stopped?: boolean;
}

/**
 * Prompts and pictures of a run's validations, encoded before the training state is allocated. Ranks share the prompts
 * out: rank r encodes and samples those from the r-th on whose place differs by a multiple of the number of ranks.
 */
export class Validation {
  private constructor(
    readonly config: TrainConfig,
    readonly model: ModelFolder,
    readonly communicator: Communicator,
    readonly settings: SampleSettings,
    /** Those of all ranks. */
    readonly requests: readonly SampleRequest[],
    /** Those of this rank. */
    readonly own: Preparation,
    readonly learned: Float32Array<ArrayBuffer> | undefined,
  ) {}

  /**
   * Reads and encodes what `config` asks for; undefined without `do_validation`. Throws UserErrors naming every
   * problem.
   */
  static async prepare(
    device: Device,
    config: TrainConfig,
    model: ModelFolder,
    communicator: Communicator,
  ): Promise<Validation | undefined> {
    if (!config.do_validation) return undefined;
    const settings = settingsOf(config);
    const requests = await readValidation(config, model.transformer);
    const mine = requests.filter((_, i) => i % communicator.size === communicator.rank);
    using session = new Session(device, gpuMemoryLimit(config));
    const own = mine.length === 0 ? { requests: [], notes: [] } : await prepareRequests(session, model, mine, settings);
    const table = positionTableShape(model.transformer);
    using transformer = table && openTransformer(model.path);
    const learned = transformer?.source.readF32(table!.name);
    return new Validation(config, model, communicator, settings, requests, own, learned);
  }

  /**
   * Whether videos are due after `step` of `totalSteps` optimizer steps: at the start, at every interval and at the
   * end.
   */
  isDue(step: number, totalSteps: number): boolean {
    return step % this.config.validation_steps! === 0 || step === totalSteps;
  }

  /**
   * Samples every prompt, one per rank at a time; all ranks call it together, and the first keeps the page of all
   * steps. A failure becomes a warning: it must not end a run that has trained for hours.
   */
  async *run(
    session: Session,
    run: RunDescription,
    step: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<SampleEvent | WarningEvent> {
    const { requests, communicator: { size } } = this;
    const names = validationNames(step, requests.map(({ prompt }) => prompt));
    const warning = (reason: string): WarningEvent => ({
      type: "warning",
      message: `validation after step ${step} failed, training goes on: ${reason}`,
    });
    for (let first = 0; first < requests.length; first += size) {
      const own = await this.#sample(session, run, first, names, signal);
      const outcomes = await gatherValues(this.communicator, own, { deadline: longPhase });
      for (const [rank, { sample }] of outcomes.entries()) {
        if (sample === undefined) continue;
        const { path, seconds } = sample;
        const { prompt } = requests[first + rank]!;
        const problem = await this.#addToPage(first + rank, step, sample);
        if (problem !== undefined) yield warning(problem);
        yield { type: "sample", step, prompt, path, seconds };
      }
      if (outcomes.some(({ stopped }) => stopped)) return;
      const failures = outcomes.flatMap(({ failure }) => failure ?? []);
      for (const failure of failures) yield warning(failure);
      if (failures.length > 0) return;
    }
  }

  /**
   * Samples this rank's request of the round that begins with the request `first`; it may have none in the last round.
   */
  async #sample(
    session: Session,
    { parameters, step: { activation } }: RunDescription,
    first: number,
    names: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<Outcome> {
    const { config, model, communicator: { rank, size }, settings, learned } = this;
    const name = names[first + rank];
    if (name === undefined) return {};
    const started = performance.now();
    try {
      const sample = await sampleValidation(
        session,
        model,
        this.own.requests[first / size]!,
        join(config.output_dir, VALIDATION_FOLDER, name),
        { parameters, activation: activation as StorageType, learned, settings, fps: config.gen_fps, signal },
      );
      return { sample: { ...sample, seconds: (performance.now() - started) / 1000 } };
    } catch (error) {
      return signal?.aborted === true ? { stopped: true } : { failure: messageOf(error) };
    }
  }

  /** Shows a sample on the page of all steps, which the first rank keeps; returns what went wrong. */
  async #addToPage(place: number, step: number, { path, image }: ValidationSample): Promise<string | undefined> {
    if (this.communicator.rank > 0) return undefined;
    const { prompt, seed } = this.requests[place]!;
    const details = describeSettings(this.settings);
    try {
      const page = new SamplePage(join(this.config.output_dir, VALIDATION_FOLDER), "Validation samples");
      await page.add({ prompt, seed, step, file: path, image, details });
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }
}
