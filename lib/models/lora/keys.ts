/**
 * How the LoRA formats name their tensors. A is `[rank, in]` and B `[out, rank]` in all of them; they differ in names,
 * and in where alpha is: in the metadata (diffusers), in a JSON file (peft), in a tensor per layer (kohya, ComfyUI),
 * nowhere (SAT).
 */

/** Formats that can be read and written. */
export const loraFormats = ["diffusers", "peft", "kohya", "comfyui", "sat"] as const;

/** Name of a format. */
export type LoraFormat = typeof loraFormats[number];

/** What a tensor of a LoRA file is: A, B, the scalar alpha of a layer, or the norms of its rows (DoRA). */
export type LoraPart = "down" | "up" | "alpha" | "magnitude";

/** Layers of a block: name in diffusers, and in ComfyUI's own model. */
const BLOCK_LAYERS: readonly (readonly [string, string])[] = [
  ["norm1.linear", "norm1.linear"],
  ["attn1.to_q", "q"],
  ["attn1.to_k", "k"],
  ["attn1.to_v", "v"],
  ["attn1.to_out.0", "attn_out"],
  ["norm2.linear", "norm2.linear"],
  ["ff.net.0.proj", "ff_proj"],
  ["ff.net.2", "ff_out"],
];

/** Layers outside the blocks, likewise. */
const OTHER_LAYERS: readonly (readonly [string, string])[] = [
  ["patch_embed.proj", "patch_embed.proj"],
  ["patch_embed.text_proj", "patch_embed.text_proj"],
  ["time_embedding.linear_1", "time_embedding_linear_1"],
  ["time_embedding.linear_2", "time_embedding_linear_2"],
  ["ofs_embedding.linear_1", "ofs_embedding_linear_1"],
  ["ofs_embedding.linear_2", "ofs_embedding_linear_2"],
  ["norm_out.linear", "norm_out.linear"],
  ["proj_out", "proj_out"],
];

/** SAT fuses query, key and value into one layer whose adapters are numbered. */
const SAT_LAYERS: readonly (readonly [string, string, number])[] = [
  ["attn1.to_q", "attention.query_key_value", 0],
  ["attn1.to_k", "attention.query_key_value", 1],
  ["attn1.to_v", "attention.query_key_value", 2],
  ["attn1.to_out.0", "attention.dense", 0],
];

const PREFIX: Readonly<Record<Exclude<LoraFormat, "kohya" | "sat">, string>> = {
  diffusers: "transformer.",
  peft: "base_model.model.",
  comfyui: "diffusion_model.",
};

const SUFFIX: Readonly<Record<Exclude<LoraFormat, "sat">, Readonly<Record<LoraPart, string>>>> = {
  diffusers: { down: ".lora_A.weight", up: ".lora_B.weight", alpha: ".alpha", magnitude: ".lora_magnitude_vector" },
  peft: { down: ".lora_A.weight", up: ".lora_B.weight", alpha: ".alpha", magnitude: ".lora_magnitude_vector" },
  kohya: { down: ".lora_down.weight", up: ".lora_up.weight", alpha: ".alpha", magnitude: ".dora_scale" },
  comfyui: { down: ".lora_A.weight", up: ".lora_B.weight", alpha: ".alpha", magnitude: ".dora_scale" },
};

/** Formats that hold alpha as one scalar tensor per layer. */
export function storesAlphaTensors(format: LoraFormat): boolean {
  return format === "kohya" || format === "comfyui";
}

/** Name of a tensor in `format`; undefined when the format has no place for the layer. */
export function loraKey(format: LoraFormat, layer: string, part: LoraPart): string | undefined {
  if (format === "sat") return satKey(layer, part);
  if (format === "kohya") return `lora_unet__${layer.replaceAll(".", "_")}${SUFFIX.kohya[part]}`;
  const name = format === "comfyui" ? comfyLayer(layer) : layer;
  return name === undefined ? undefined : `${PREFIX[format]}${name}${SUFFIX[format][part]}`;
}

function satKey(layer: string, part: LoraPart): string | undefined {
  const [, block, leaf] = /^transformer_blocks\.(\d+)\.(.+)$/.exec(layer) ?? [];
  const entry = SAT_LAYERS.find(([name]) => name === leaf);
  if (entry === undefined || part === "alpha" || part === "magnitude") return undefined;
  const matrix = part === "down" ? "matrix_A" : "matrix_B";
  return `model.diffusion_model.transformer.layers.${block}.${entry[1]}.${matrix}.${entry[2]}`;
}

function comfyLayer(layer: string): string | undefined {
  const [, block, leaf] = /^transformer_blocks\.(\d+)\.(.+)$/.exec(layer) ?? [];
  if (block === undefined) return OTHER_LAYERS.find(([name]) => name === layer)?.[1];
  const name = BLOCK_LAYERS.find(([name]) => name === leaf)?.[1];
  return name === undefined ? undefined : `blocks.${block}.${name}`;
}

/** What a key of a LoRA file names. */
export interface ParsedKey {
  readonly format: LoraFormat;
  /** Layer by its diffusers name. */
  readonly layer: string;
  readonly part: LoraPart;
}

const SUFFIX_PARTS: readonly (readonly [RegExp, LoraPart])[] = [
  // peft puts the adapter's name, "default" mostly, into keys of a model in memory, and some trainers save those.
  [/\.lora_A(\.[\w-]+)?\.weight$|\.lora_down\.weight$|\.lora\.down\.weight$/, "down"],
  [/\.lora_B(\.[\w-]+)?\.weight$|\.lora_up\.weight$|\.lora\.up\.weight$/, "up"],
  [/\.alpha$/, "alpha"],
  [/\.lora_magnitude_vector(\.[\w-]+)?(\.weight)?$|\.dora_scale$/, "magnitude"],
];

/** What stands in front of a layer: the names of the modules that a trainer wrapped the transformer in. */
const WRAPPERS = /^(?:(?:base_model\.model|diffusion_model|transformer|model|module|unet)\.)*/;

/** Reads a key of any of the formats; undefined when it belongs to none. */
export function parseLoraKey(key: string): ParsedKey | undefined {
  const sat = parseSatKey(key);
  if (sat !== undefined) return sat;
  for (const [suffix, part] of SUFFIX_PARTS) {
    if (!suffix.test(key)) continue;
    const module = key.replace(suffix, "");
    const kohya = /^(?:lora_(?:unet|transformer)|lycoris)_+(.+)$/.exec(module)?.[1];
    if (kohya !== undefined) {
      const layer = undotted(kohya);
      return layer === undefined ? undefined : { format: "kohya", layer, part };
    }
    const [prefix] = WRAPPERS.exec(module)!;
    const layer = knownLayer(module.slice(prefix.length));
    // Without a prefix it is the state of a peft model, as CogKit saves it.
    const format = prefix === "" || prefix.includes(PREFIX.peft)
      ? "peft"
      : prefix.includes(PREFIX.comfyui)
      ? "comfyui"
      : "diffusers";
    return layer === undefined ? undefined : { format, layer, part };
  }
  return undefined;
}

function parseSatKey(key: string): ParsedKey | undefined {
  const match =
    /^(?:module\.)?(?:model\.diffusion_model\.)?(?:transformer\.)?layers\.(\d+)\.(attention\.\w+)\.matrix_([AB])\.(\d)$/
      .exec(key);
  if (match === null) return undefined;
  const [, block, module, matrix, index] = match;
  const leaf = SAT_LAYERS.find(([, name, number]) => name === module && number === Number(index))?.[0];
  if (leaf === undefined) return undefined;
  return { format: "sat", layer: `transformer_blocks.${block}.${leaf}`, part: matrix === "A" ? "down" : "up" };
}

/** The diffusers name of a layer given by its diffusers or ComfyUI name. */
function knownLayer(name: string): string | undefined {
  const [, block, leaf] = /^(?:transformer_)?blocks\.(\d+)\.(.+)$/.exec(name) ?? [];
  const layers = block === undefined ? OTHER_LAYERS : BLOCK_LAYERS;
  const wanted = leaf ?? name;
  const found = layers.find(([diffusers, comfy]) => wanted === diffusers || wanted === comfy)?.[0];
  if (found === undefined) return undefined;
  return block === undefined ? found : `transformer_blocks.${Number(block)}.${found}`;
}

/** The diffusers name of a layer whose dots became underscores, which only a list of the layers can undo. */
function undotted(name: string): string | undefined {
  const [, block, leaf] = /^(?:transformer_)?blocks_(\d+)_(.+)$/.exec(name) ?? [];
  const layers = block === undefined ? OTHER_LAYERS : BLOCK_LAYERS;
  const wanted = leaf ?? name;
  const found = layers.find((names) => names.some((known) => known.replaceAll(".", "_") === wanted))?.[0];
  if (found === undefined) return undefined;
  return block === undefined ? found : `transformer_blocks.${Number(block)}.${found}`;
}
