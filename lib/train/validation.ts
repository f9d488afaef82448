/** Videos sampled during training: what the config asks for, prepared once, sampled with the weights on the device. */
import { dirname, isAbsolute, join } from "node:path";
import { readTextList } from "../data/text_list.ts";
import { UserErrors } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { Session } from "../gpu/session.ts";
import type { StorageType } from "../io/half.ts";
import type { ModelFolder } from "../models/model_folder.ts";
import { openTransformer } from "../models/transformer_file.ts";
import { positionTableShape } from "../models/transformer_config.ts";
import { readPicture } from "../sample/pictures.ts";
import type { Preparation } from "../sample/prepare.ts";
import type { SampleRequest, SampleSettings } from "../sample/settings.ts";
import { prepareValidation, validate } from "../sample/validate.ts";
import type { TrainConfig } from "./config.ts";
import type { SampleEvent, WarningEvent } from "./events.ts";
import { capOf } from "./prepare_data.ts";
import type { RunDescription } from "./step_config.ts";

/** Folder of validation videos below the output folder, as the original trainer names it. */
const FOLDER = "validation_res";

/** The requests of a config, read and checked. */
async function readRequests(config: TrainConfig): Promise<SampleRequest[]> {
  const problems: string[] = [];
  const list = async (file: string | undefined) => {
    if (file === undefined) return undefined;
    const path = isAbsolute(file) ? file : join(config.validation_dir!, file);
    const entries = await readTextList(path, path, problems);
    return entries?.map(({ text }) => ({ text, folder: dirname(path) }));
  };
  const prompts = await list(config.validation_prompts) ?? [];
  const images = config.model_type === "i2v" ? await list(config.validation_images) : undefined;
  if (images !== undefined && images.length !== prompts.length) {
    problems.push(`${prompts.length} validation prompts but ${images.length} validation images`);
  }
  if (problems.length > 0) throw new UserErrors("Cannot validate", problems);
  return await Promise.all(prompts.map(async ({ text }, i) => ({
    prompt: text,
    seed: config.seed,
    ...(images === undefined ? {} : { image: await readPicture(join(images[i]!.folder, images[i]!.text)) }),
  })));
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

/** Prompts and pictures of a run's validations, encoded before the training state is allocated. */
export class Validation {
  private constructor(
    readonly config: TrainConfig,
    readonly model: ModelFolder,
    readonly settings: SampleSettings,
    readonly prepared: Preparation,
    readonly learned: Float32Array<ArrayBuffer> | undefined,
  ) {}

  /** Reads and encodes what `config` asks for; undefined without `do_validation`. Throws UserErrors naming every problem. */
  static async prepare(device: Device, config: TrainConfig, model: ModelFolder): Promise<Validation | undefined> {
    if (!config.do_validation) return undefined;
    const settings = settingsOf(config);
    const requests = await readRequests(config);
    using session = new Session(device, capOf(config));
    const prepared = await prepareValidation(session, model, requests, settings);
    const table = positionTableShape(model.transformer);
    if (table === undefined) return new Validation(config, model, settings, prepared, undefined);
    using transformer = openTransformer(model.path);
    return new Validation(config, model, settings, prepared, transformer.source.readF32(table.name));
  }

  /** Whether videos are due after `step` of `totalSteps` optimizer steps: at the start, at every interval and at the end. */
  isDue(step: number, totalSteps: number): boolean {
    return step % this.config.validation_steps! === 0 || step === totalSteps;
  }

  /** Samples every prompt. A failure becomes a warning: it must not end a run that has trained for hours. */
  async *run(
    session: Session,
    { parameters, step: { activation } }: RunDescription,
    step: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<SampleEvent | WarningEvent> {
    const { config, model, settings, prepared, learned } = this;
    try {
      const samples = validate(session, model, {
        parameters,
        activation: activation as StorageType,
        learned,
        prepared,
        settings,
        fps: config.gen_fps,
        outputFolder: join(config.output_dir, FOLDER),
        step,
        signal,
      });
      for await (const sample of samples) yield { type: "sample", step, ...sample };
    } catch (error) {
      if (signal?.aborted === true) return;
      const reason = error instanceof Error ? error.message : String(error);
      yield { type: "warning", message: `validation after step ${step} failed, training goes on: ${reason}` };
    }
  }
}
