/** What a user should know of a LoRA file: an alpha that is a guess, and tensors that change nothing here. */
import { someNames } from "../tensors/some_names.ts";

/** Kinds of tensors that trainers save beside the adapters of the transformer, by their names. */
const KINDS: readonly (readonly [RegExp, string])[] = [
  [/^lora_te\d*_|(^|[._])(text_encoder|text_model|cond_stage_model|te\d?)[._]/, "of a text encoder"],
  [/(^|[._])(vae|first_stage_model)[._]/, "of an autoencoder"],
  [/\.(diff|diff_b|set_weight|w_norm|b_norm|modules_to_save\..+|original\.weight)$/, "whole weights"],
  [/\.bias$/, "biases"],
  [/\.(lora_A|lora_B|lora_down|lora_up|lora)\b|\.(alpha|dora_scale)$/, "of layers that no CogVideoX transformer has"],
];

/** One line per kind of unusable tensors: how many, what they are, and some of their names. */
export function describeStrays(strays: readonly string[]): string[] {
  const kindOf = (name: string) => KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? "of another kind";
  return [...Map.groupBy(strays, kindOf)].map(([kind, names]) => {
    return `${names.length} tensor${names.length === 1 ? "" : "s"} ${kind}: ${someNames(names)}`;
  });
}

/** The part of a file that was read that is told about. */
interface LoraSummary {
  readonly path: string;
  readonly alphaStored: boolean;
  readonly alpha: number;
  readonly rank: number;
  readonly strays: readonly string[];
}

/** Lines about a file that is put to use. */
export function loraNotes({ path, alphaStored, alpha, rank, strays }: LoraSummary): string[] {
  const guess = `${path} does not state alpha: applied with alpha ${alpha} at rank ${rank}, as other loaders do`;
  return [...(alphaStored ? [] : [guess]), ...describeStrays(strays).map((text) => `${path}: not used: ${text}`)];
}
