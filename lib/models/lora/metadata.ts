/**
 * What a LoRA file says about itself. diffusers reads the entry `lora_adapter_metadata` and hands it to peft's
 * LoraConfig as it stands, so it holds only fields that every peft version knows; without it, loaders take alpha = rank
 * for granted.
 */
import { UserError } from "../../errors.ts";
import { type BaseModel, parseBase } from "./base.ts";
import { commonValue, type LoraModules } from "./module.ts";

/** Metadata entry that diffusers reads. */
export const adapterEntry = "lora_adapter_metadata";

/** Metadata entry of finetrainers, whose fields are some of peft's. */
const finetrainersEntry = "lora_config";

/** Metadata entry of kohya's trainers, which lies beside an alpha per layer as a rule. */
const kohyaEntry = "ss_network_alpha";

/** Metadata entry of this program: base model, rank and alpha. */
export const ownEntry = "cogtune";

/** Fields of peft's LoraConfig. Rank and alpha of most layers come first, exceptions in the patterns, by layer name. */
export function peftConfig(
  modules: LoraModules,
  { targets, rankStabilised }: { readonly targets: readonly string[]; readonly rankStabilised: boolean },
): Record<string, unknown> {
  const settings = new Map([...modules].map(([layer, { rank, alpha }]) => {
    // Dividing by the root that it was multiplied with can leave a last bit.
    return [layer, { rank, alpha: rankStabilised ? Number((alpha / Math.sqrt(rank)).toPrecision(12)) : alpha }];
  }));
  const rank = commonValue([...settings.values()].map((layer) => layer.rank));
  const alpha = commonValue([...settings.values()].map((layer) => layer.alpha));
  const exceptions = (field: "rank" | "alpha", common: number) =>
    Object.fromEntries([...settings].filter(([, s]) => s[field] !== common).map(([layer, s]) => [layer, s[field]]));
  return {
    alpha_pattern: exceptions("alpha", alpha),
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: false,
    init_lora_weights: true,
    lora_alpha: alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: rank,
    rank_pattern: exceptions("rank", rank),
    target_modules: [...targets].sort(),
    task_type: null,
    use_dora: [...modules.values()].some(({ magnitude }) => magnitude !== undefined),
    use_rslora: rankStabilised,
  };
}

/**
 * `target_modules` for peft, which adapts every linear or convolution layer whose name is a target or ends in
 * `.TARGET`: the given targets when that rule selects exactly the layers of the file, else the layers one by one
 * (patterns with `*` always).
 */
export function peftTargets(
  layers: readonly string[],
  targets: readonly string[],
  modelLayers: readonly string[],
): readonly string[] {
  const selected = modelLayers.filter((name) =>
    targets.some((target) => name === target || name.endsWith(`.${target}`))
  );
  const same = selected.length === layers.length && selected.every((name) => layers.includes(name));
  return same ? targets : layers;
}

/** Metadata of a file this program writes; `adapter` adds the entry diffusers reads. */
export function fileMetadata(
  modules: LoraModules,
  { base, adapter }: { base?: BaseModel | undefined; adapter?: Readonly<Record<string, unknown>> | undefined },
): Record<string, string> {
  const own = {
    version: 1,
    rank: commonValue([...modules.values()].map(({ rank }) => rank)),
    alpha: commonValue([...modules.values()].map(({ alpha }) => alpha)),
    ...(base && { base }),
  };
  const prefixed = adapter && Object.entries(adapter).map(([key, value]) => [`transformer.${key}`, value] as const);
  return {
    format: "pt",
    ...(prefixed && { [adapterEntry]: JSON.stringify(Object.fromEntries(prefixed), null, 2) }),
    [ownEntry]: JSON.stringify(own),
  };
}

/** Alpha by layer and rank; undefined where nothing says it. */
export type AlphaLookup = (layer: string, rank: number) => number | undefined;

/** What the metadata of a file say. */
export interface Description {
  readonly alphaOf: AlphaLookup;
  readonly base: BaseModel | undefined;
  /** A DoRA: the file must hold norms. */
  readonly decomposed?: boolean;
}

/**
 * Reads metadata entries of a LoRA file, of this program or another.
 *
 * @param where the file, for messages.
 * @param configText text of an `adapter_config.json` beside the file, as peft writes it.
 * @throws {UserError} when an entry that states alpha can't be read: guessing would apply the LoRA at another strength.
 */
export function readDescription(
  metadata: ReadonlyMap<string, string>,
  where: string,
  configText?: string,
): Description {
  const own = parseEntry(metadata.get(ownEntry), ownEntry, where);
  const adapter = parseEntry(metadata.get(adapterEntry), adapterEntry, where) ??
    parseEntry(metadata.get(finetrainersEntry), finetrainersEntry, where) ??
    parseEntry(configText, "adapter_config.json beside it", where);
  const peft = adapter && peftAlpha(unprefixed(adapter), where);
  const stated = own?.alpha ?? kohyaAlpha(metadata.get(kohyaEntry));
  const alpha = stated === undefined ? undefined : checkedAlpha(stated, "alpha", where);
  return {
    alphaOf: (layer, rank) => peft?.(layer, rank) ?? alpha,
    base: parseBase(own?.base),
    decomposed: adapter !== undefined && unprefixed(adapter).use_dora === true,
  };
}

/** A number as text; kohya's trainers write "None" for what was not given. */
function kohyaAlpha(text: string | undefined): number | undefined {
  const alpha = Number(text);
  return alpha > 0 ? alpha : undefined;
}

function parseEntry(text: string | undefined, what: string, where: string): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new UserError(
    `${where}: ${what} is not a JSON object, so alpha is unknown`,
    "give the alpha the LoRA was trained with as --alpha NUMBER",
  );
}

/** Keys of the transformer: diffusers puts the part of the pipeline in front. */
function unprefixed(adapter: Record<string, unknown>): Record<string, unknown> {
  const own = Object.entries(adapter).filter(([key]) => key.startsWith("transformer."));
  return own.length === 0 ? adapter : Object.fromEntries(own.map(([key, value]) => [key.slice(12), value]));
}

function peftAlpha(adapter: Record<string, unknown>, where: string): AlphaLookup {
  const common = adapter.lora_alpha === undefined ? undefined : checkedAlpha(adapter.lora_alpha, "lora_alpha", where);
  const patterns = Object.entries((adapter.alpha_pattern ?? {}) as Record<string, unknown>).map(([pattern, value]) => {
    const name = pattern.replace(/^\^/, "").replaceAll("\\.", ".");
    // peft takes a regular expression; nobody writes one but layer names, and one from a file can take forever to
    // match.
    if (!/^[\w.]+$/.test(name)) {
      throw new UserError(
        `${where}: alpha_pattern "${pattern.slice(0, 80)}" is no layer name`,
        "give the alpha the LoRA was trained with as --alpha NUMBER",
      );
    }
    return { name, value: checkedAlpha(value, `alpha_pattern of "${name}"`, where) };
  });
  return (layer, rank) => {
    const own = patterns.find(({ name }) => layer === name || layer.endsWith(`.${name}`))?.value;
    const alpha = own ?? common;
    // Rank-stabilised LoRA divides by the root of the rank; the alpha that gives the same scale with alpha / rank:
    return alpha !== undefined && adapter.use_rslora === true ? alpha * Math.sqrt(rank) : alpha;
  };
}

/**
 * Alpha as a positive finite number.
 *
 * @throws {UserError} for everything else.
 */
export function checkedAlpha(value: unknown, what: string, where: string): number {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
  throw new UserError(
    `${where}: ${what} is ${JSON.stringify(value)}, expected a positive number`,
    "give the alpha the LoRA was trained with as --alpha NUMBER",
  );
}
