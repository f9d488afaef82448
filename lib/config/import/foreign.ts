/** What every trainer whose configs are imported brings: how they are recognised, and what its keys mean here. */

/** Settings of another trainer as they are written, by key. */
export type ForeignValues = ReadonlyMap<string, ForeignValue>;

/** One value: text or a number from a file, the words behind a flag. */
export type ForeignValue = string | number | boolean | null | readonly ForeignValue[];

/** A config or command line before its trainer is known. */
export interface ForeignSource {
  readonly kind: "command" | "yaml" | "toml";
  /** The program that is called, as `train.py`; "" for a file of settings. */
  readonly program: string;
  /** Keys of nested tables are joined with dots, as `optimizer.lr`. */
  readonly values: ForeignValues;
  /** Folder that relative paths are taken from. */
  readonly folder: string;
}

/** What becomes of a foreign setting: keys of this program, or none. */
export interface Outcome {
  readonly set?: Readonly<Record<string, unknown>>;
  /** What differs, or why nothing is set. */
  readonly why?: string;
}

/**
 * How one foreign key is taken over: the name of the key here with the same meaning, or a function of the text of its
 * value and of all settings.
 */
export type ForeignRule = string | ((value: ForeignValue, source: ForeignSource) => Outcome);

/** One trainer. */
export interface ForeignTrainer {
  readonly name: string;
  /** What people have of it, as `train.sh with --pretrained_model_name_or_path`. */
  readonly title: string;
  recognises(source: ForeignSource): boolean;
  readonly rules: Readonly<Record<string, ForeignRule>>;
  /** What it does where its config says nothing and this program does otherwise. */
  readonly defaults: Readonly<Record<string, unknown>>;
}

/** The text of a value; several words are joined. */
export function textOf(value: ForeignValue): string {
  return Array.isArray(value) ? value.map(textOf).join(" ") : String(value);
}

/** A rule for what this program has no use for. */
export function without(why: string): ForeignRule {
  return () => ({ why });
}

/** Whether a switch or value means yes; a switch has no words behind it. */
export function isYes(value: ForeignValue): boolean {
  return (Array.isArray(value) && value.length === 0) || /^(true|yes|1)$/i.test(textOf(value));
}

/** A rule for a switch. */
export function yes(key: string): ForeignRule {
  return (value) => ({ set: { [key]: isYes(value) } });
}

/** Types that models are computed in. */
export const precision: ForeignRule = (value) => {
  const text = textOf(value).replace("bfloat16", "bf16").replace("float16", "fp16").replace(/^(fp32|float32)$/, "no");
  return ["bf16", "fp16", "no"].includes(text)
    ? { set: { mixed_precision: text } }
    : { set: { mixed_precision: "bf16" }, why: `${text} is not a type of activations here` };
};

/** Optimizers under the names of PyTorch, bitsandbytes, optimi and prodigyopt. */
export const optimizer: ForeignRule = (value) => {
  const text = textOf(value).toLowerCase().replace(/[^a-z0-9]/g, "");
  const name = /8bit/.test(text)
    ? "adamw8bit"
    : ["adamw", "adam", "prodigy", "came"].find((known) => text.startsWith(known));
  if (name === undefined) return { set: { optimizer: "adamw" }, why: `there is no ${textOf(value)} here` };
  return {
    set: { optimizer: name },
    ...(text === name || /optimi$/.test(text) ? {} : { why: `in place of ${textOf(value)}` }),
  };
};

/** Layers under their names, one by one or as a pattern that lists them. */
export const layers: ForeignRule = (value) => {
  const text = textOf(value);
  const isPattern = /[|*()^$]/.test(text);
  const names = isPattern
    ? [...new Set(text.match(/\b(?:to_[qkv]|to_out\.?0|ff\.net\.[02](?:\.proj)?|proj_out|proj_in)\b/g))]
      .map((name) => name.replace("to_out0", "to_out.0"))
    : text.split(/[\s,]+/).filter((name) => name !== "");
  if (names.length === 0) return { why: `no layer of the model is named in ${text}` };
  return { set: { target_modules: names }, ...(isPattern ? { why: "the layers that the pattern names" } : {}) };
};

/** Reports that go to a service have a file here. */
export const reports: ForeignRule = (value) =>
  /tensorboard|all/.test(textOf(value))
    ? { set: { report_to: "tensorboard" } }
    : { why: "every run has a page and metrics.jsonl; no figures leave the machine" };

/** What belongs to PyTorch or its launchers and has nothing to say here. */
export const ofTorch: Readonly<Record<string, ForeignRule>> = Object.fromEntries(
  ["allow_tf32", "nccl_timeout", "init_timeout", "pin_memory", "num_workers", "dataloader_num_workers"].map((key) => [
    key,
    without("belongs to PyTorch and needs no setting here"),
  ]),
);

/** Names of trackers, which this program does without, and of uploads, which it makes for whoever asks it again. */
export const ofServices: Readonly<Record<string, ForeignRule>> = {
  ...Object.fromEntries(
    ["tracker_name", "logging_dir", "wandb_name", "name4train", "log_level"]
      .map((key) => [key, without("names what is reported to a service")]),
  ),
  ...Object.fromEntries(
    ["push_to_hub", "hub_token", "hub_model_id"].map((key) => [
      key,
      without("uploads only on request: push_to_hub names the repository here, HF_TOKEN holds the token"),
    ]),
  ),
};
