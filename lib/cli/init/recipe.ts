/** What a model, a way to train and an amount of memory make of a config. */
import schema from "../../../configs/schema.json" with { type: "json" };
import { resolveConfig, type TrainConfig } from "../../config/config.ts";
import { modelNameOf, variantFromPath } from "../../config/derive.ts";
import { presetNames } from "../../config/presets.ts";
import { UserError } from "../../errors.ts";
import { fitMemory } from "../../forecast/fit.ts";
import { folderShapes } from "../../forecast/folder_shapes.ts";
import { baseModel } from "../../models/lora/base.ts";
import { type ModelVariant, RELEASED, type TransformerConfig } from "../../models/transformer/config.ts";

/** A model: folder or hub id, and the released model that it is or is built like. */
export interface ChosenModel {
  readonly path: string;
  readonly variant: ModelVariant;
  readonly transformer: TransformerConfig;
}

/** What to train. */
export type Method = TrainConfig["training_type"];

/** A block of a config file: a comment, and keys below it. */
export interface Block {
  readonly comment: string;
  readonly keys: Readonly<Partial<Record<keyof TrainConfig | "preset", unknown>>>;
}

/** The preset of a released model; others get the keys that presets set. */
export function recipe({ path, variant, transformer }: ChosenModel, method: Method): Block {
  const isReleased = baseModel(RELEASED[variant]).digest === baseModel(transformer).digest;
  const preset = [`${variant}-${method}`, `${variant}-${method}-offload`].find((name) => presetNames.includes(name));
  if (isReleased && preset !== undefined) {
    const { enum: names, enumDescriptions } = schema.properties.preset;
    return { comment: enumDescriptions[names.indexOf(preset)]!, keys: { preset } };
  }
  const told = variantFromPath(path);
  const name = modelNameOf(variant);
  const { sample_frames, sample_height, sample_width } = transformer;
  return {
    comment: "A model of another size than the released ones, at the shape of clips that it is configured for.",
    keys: {
      ...(told !== undefined && modelNameOf(told) === name ? {} : { model_name: name }),
      training_type: method,
      train_resolution: `${sample_frames}x${8 * sample_height}x${8 * sample_width}`,
    },
  };
}

/** How a run fits a GPU. */
interface RecipeFit {
  /** What the run needs, as forecast. */
  readonly gpuBytes: number;
  /** Keys that differ from the recipe. */
  readonly switches: Readonly<Partial<TrainConfig>>;
}

/**
 * The fastest memory switches that fit.
 *
 * @throws {UserError} when none do.
 */
export function fitRecipe(model: ChosenModel, method: Method, gibibytes: number): RecipeFit {
  const { config } = resolveConfig("", { overrides: { model_path: model.path, ...recipe(model, method).keys } });
  const fit = fitMemory(config, gibibytes * 2 ** 30, folderShapes(config));
  if (fit === undefined) {
    throw new UserError(
      `No memory switches make this run fit ${gibibytes} GiB`,
      "it takes a GPU with more memory, a smaller model, or LoRA in place of sft",
    );
  }
  const switches = Object.entries(fit.switches).filter(([key, value]) =>
    JSON.stringify(value) !== JSON.stringify(config[key as keyof TrainConfig])
  );
  return { gpuBytes: fit.gpuBytes, switches: Object.fromEntries(switches) };
}
