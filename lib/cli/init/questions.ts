/** The five questions of `init`: what they ask, and what they take for an answer. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { variantFromPath } from "../../config/derive.ts";
import { readDataset } from "../../data/dataset/dataset.ts";
import { UserError } from "../../errors.ts";
import { parseHubId } from "../../models/folder/hub.ts";
import { openModelFolder } from "../../models/folder/model_folder.ts";
import { baseModel } from "../../models/lora/base.ts";
import { type ModelVariant, RELEASED } from "../../models/transformer/config.ts";
import { type ChosenModel, fitRecipe, type Method } from "./recipe.ts";

/** Where the released models are. */
export const HUB: Readonly<Record<string, string>> = {
  "2b": "THUDM/CogVideoX-2b",
  "5b": "THUDM/CogVideoX-5b",
  "5b-i2v": "THUDM/CogVideoX-5b-I2V",
  "1.5-5b": "THUDM/CogVideoX1.5-5B",
  "1.5-5b-i2v": "THUDM/CogVideoX1.5-5B-I2V",
};

/** What the answers come to. */
export interface Answers {
  readonly model: ChosenModel;
  readonly data: { readonly root: string; readonly clips: number };
  readonly method: Method;
  /** GiB. */
  readonly memory: number;
  readonly trigger: string;
}

/** One question. */
export interface Question<Key extends keyof Answers = keyof Answers> {
  /** Name of the flag that answers it, and of the answer. */
  readonly name: Key;
  readonly asks: string;
  /** What Enter answers; without it there must be an answer. */
  readonly fallback?: string;
  /**
   * Reads an answer.
   *
   * @throws {UserError} when it is none.
   */
  read(text: string, earlier: Partial<Answers>): Promise<Answers[Key]> | Answers[Key];
}

function readModel(text: string): ChosenModel {
  const path = HUB[text.toLowerCase()] ?? text;
  if (!existsSync(path)) {
    const variant = parseHubId(path) === undefined ? undefined : variantFromPath(path);
    if (variant !== undefined) return { path, variant, transformer: RELEASED[variant] };
    throw new UserError(
      `"${text}" is neither a folder nor a model that is known`,
      `give a diffusers folder, a hub id such as ${HUB["5b"]}, or one of ${Object.keys(HUB).join(", ")}`,
    );
  }
  const { transformer } = openModelFolder(path);
  return { path, variant: baseModel(transformer).family as ModelVariant, transformer };
}

async function readData(text: string, { model }: Partial<Answers>): Promise<Answers["data"]> {
  const { items } = await readDataset(resolve(text), { images: model?.variant.endsWith("i2v") ?? false });
  return { root: text, clips: items.length };
}

function readMemory(text: string, { model, method }: Partial<Answers>): number {
  const value = Number(/^([0-9]+\.?[0-9]*)\s*(gib|gb)?$/i.exec(text)?.[1]);
  if (!(value > 0)) throw new UserError(`"${text}" is no amount of memory`, "give the GPU's memory in GiB, as 24");
  // A GPU that is too small is told while there is a question to answer differently.
  if (model !== undefined && method !== undefined) fitRecipe(model, method, value);
  return value;
}

/** In the order in which they are asked. */
export const QUESTIONS: readonly Question[] = [
  {
    name: "model",
    asks: `Which model? A folder, a hub id, or one of ${Object.keys(HUB).join(", ")}`,
    fallback: "5b",
    read: readModel,
  },
  { name: "data", asks: "Which folder holds your clips and their captions?", read: readData },
  {
    name: "method",
    asks: "Train a LoRA, or all weights (sft)?",
    fallback: "lora",
    read(text) {
      const method = text.toLowerCase();
      if (method === "lora" || method === "sft") return method;
      throw new UserError(`"${text}" is no way to train`, "answer lora or sft");
    },
  },
  { name: "memory", asks: "How much memory has your GPU, in GiB?", fallback: "24", read: readMemory },
  {
    name: "trigger",
    asks: "Which word shall call what is learnt, as ohwx? It is put in front of every prompt; none when empty",
    fallback: "",
    read: (text) => text.trim(),
  },
];
