/** The LoRAs of the reference set. */
import { caseName, casesOf, pipelineOf, type ReferenceCase, referencePath } from "../../reference.ts";

/** Name that diffusers gives a LoRA in its folder. */
export const FILE = "pytorch_lora_weights.safetensors";

/** One LoRA in two files, its model, and the case that stores what they do to it. */
export interface StoredLora {
  readonly stored: ReferenceCase;
  readonly rank: number;
  readonly alpha: number;
  /** Folder of the file without alpha, which libraries take for the rank. */
  readonly plain: string;
  /** Folder of the file with rank and alpha in its metadata. */
  readonly meta: string;
  /** Folder of the model. */
  readonly model: string;
}

/** Every LoRA of the set. */
export function storedLoras(): StoredLora[] {
  return casesOf("lora", "output.base").map((stored) => {
    const plain = referencePath(`lora/${caseName(stored)}`);
    const { rank, alpha } = stored.config as { rank: number; alpha: number };
    return { stored, rank, alpha, plain, meta: `${plain}-meta`, model: pipelineOf(stored) };
  });
}

/** The LoRA on a model that makes videos from text alone, whose weights are stored in f32. */
export function textLora(): StoredLora {
  return storedLoras().find(({ stored }) => caseName(stored) === "5b")!;
}
