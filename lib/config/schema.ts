/** The schema of all keys: checking of single values, and the text that describes what a key accepts. */
import { z } from "zod";
import { data } from "./groups/data.ts";
import { image, lora } from "./groups/lora.ts";
import { memory, parallel } from "./groups/memory.ts";
import { model } from "./groups/model.ts";
import { noise } from "./groups/noise.ts";
import { optimization } from "./groups/optimization.ts";
import { run } from "./groups/run.ts";
import { validation } from "./groups/validation.ts";

const groups = [model, data, run, optimization, noise, lora, image, memory, parallel, validation];

export const trainSchema = z.strictObject({
  ...model.shape,
  ...data.shape,
  ...run.shape,
  ...optimization.shape,
  ...noise.shape,
  ...lora.shape,
  ...image.shape,
  ...memory.shape,
  ...parallel.shape,
  ...validation.shape,
});

/** A checked config in which keys that follow from others may still be unset. */
export type ConfigInput = z.output<typeof trainSchema>;

/** Keys that follow from others where nothing sets them, so that a whole config has them all. */
export const derivedKeys: readonly string[] = [
  "model_name",
  "model_type",
  "output_dir",
  "train_resolution",
  "fps",
  "lora_alpha",
] satisfies readonly (keyof ConfigInput)[];

/** What JSON schema says about one key. */
export interface Property {
  readonly type?: string;
  readonly enum?: readonly (string | number)[];
  readonly anyOf?: readonly Property[];
  readonly items?: Property;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly default?: unknown;
}

/** One key, its description and the title of its group. */
export interface KeyProperty extends Property {
  readonly description: string;
  readonly "x-group": string;
}

/** What each key accepts, in the order of the groups. */
export const properties: Readonly<Record<string, KeyProperty>> = Object.fromEntries(groups.flatMap((group) => {
  const { title, properties } = z.toJSONSchema(group, { io: "input" });
  return Object.entries(properties!).map(([key, property]) => {
    return [key, { ...property as Property & { readonly description: string }, "x-group": title! }];
  });
}));

/**
 * Keys of the original trainer that this program has no use for. They are accepted so that its command lines run as
 * they are.
 */
export const keysWithoutEffect: Readonly<Record<string, string>> = {
  num_workers: "clips are decoded once into the cache, not while training",
  pin_memory: "uploads need no pinned memory",
  nccl_timeout: "GPUs exchange gradients without NCCL",
  validation_videos: "reference videos are not used for sampling",
};

/** Every key a config file may have. */
export const configKeys: readonly string[] = ["preset", ...Object.keys(properties), ...Object.keys(keysWithoutEffect)];

/** What a key accepts, in words that follow "expected". */
export function describeProperty(key: string): string {
  if (key === "train_resolution") return "frames x height x width, as 49x480x720 or [49, 480, 720]";
  if (key === "buckets") return "a list of frames x height x width, as 49x480x720 25x480x720";
  return describe(properties[key]!);
}

function describe(property: Property): string {
  if (property.enum !== undefined) {
    return property.enum.length === 1 ? String(property.enum[0]) : `one of ${property.enum.join(", ")}`;
  }
  if (property.type === "array") {
    return `a list of ${property.items?.enum?.join(", ") ?? (property.items?.pattern ? "LAYER=NUMBER" : "names")}`;
  }
  if (property.type === "boolean") return "true or false";
  if (property.type === "string") return "text";
  const kind = property.type === "integer" ? "a whole number" : "a number";
  const { minimum, maximum = Infinity } = property;
  if (minimum !== undefined && maximum < Number.MAX_SAFE_INTEGER) return `${kind} from ${minimum} to ${maximum}`;
  const bounds: string[] = [];
  if (minimum !== undefined) bounds.push(`of at least ${minimum}`);
  if (property.exclusiveMinimum !== undefined) bounds.push(`above ${property.exclusiveMinimum}`);
  if (property.exclusiveMaximum !== undefined) bounds.push(`below ${property.exclusiveMaximum}`);
  if (maximum < Number.MAX_SAFE_INTEGER) bounds.push(`of at most ${maximum}`);
  return [kind, bounds.join(" and ")].filter((part) => part !== "").join(" ");
}

const numberText = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/;

/**
 * Turns command-line text into the kind of value its key takes. Text that is no such value is returned as it is, for
 * the schema to refuse. Booleans are `true` and `false` in any case, so that `--gradient_checkpointing False` is off.
 */
export function valueFromText(key: string, text: string): unknown {
  const property = properties[key];
  if (property === undefined || property.anyOf !== undefined) return text;
  if (property.type === "boolean" && /^(true|false)$/i.test(text)) return text.toLowerCase() === "true";
  if ((property.type === "number" || property.type === "integer") && numberText.test(text)) return Number(text);
  if (property.type === "array") {
    return text.replace(/^\[|\]$/g, "").split(/[\s,]+/).map((item) => item.replace(/^(["'])(.*)\1$/, "$2"))
      .filter((item) => item !== "");
  }
  return text;
}
