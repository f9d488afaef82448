/** Every rule that involves more than one key, or the meaning of a value rather than its type. */
import { parseHubId } from "../models/folder/hub.ts";
import { isWeak } from "../models/lora/adapters.ts";
import { type Optimizer, optimizers, optimizersThat } from "../optim/optimizers.ts";
import { adapterKeys } from "./compare.ts";
import { bucketShapes, isDrawn, layerValues, modelNameOf, namesVersion15 } from "./derive.ts";
import type { Resolution } from "./groups/data.ts";
import type { TrainConfig } from "./record.ts";

/** What a rule found. Errors stop the run before it starts; notes are printed. */
export interface Finding {
  readonly severity: "error" | "note";
  /** The key to change; its place goes in front of the message. */
  readonly key: keyof TrainConfig;
  readonly message: string;
}

/** Collects findings while the rules run. */
interface Findings {
  error(key: keyof TrainConfig, message: string): void;
  note(key: keyof TrainConfig, message: string): void;
}

/** Applies all rules. `given` tells whether a key was set by the user rather than filled in. */
export function applyRules(config: TrainConfig, given: (key: keyof TrainConfig) => boolean): Finding[] {
  const found: Finding[] = [];
  const findings: Findings = {
    error: (key, message) => void found.push({ severity: "error", key, message }),
    note: (key, message) => void found.push({ severity: "note", key, message }),
  };
  checkModel(config, findings);
  if (config.resume_from_checkpoint === "latest" && !given("output_dir")) {
    findings.error("resume_from_checkpoint", "latest: set output_dir, in which the newest checkpoint is looked for");
  }
  checkShape("train_resolution", config.train_resolution, config, findings);
  checkBuckets(config, findings);
  checkAdapters(config, given, findings);
  checkMemory(config, findings);
  checkMasterWeights(config, findings);
  checkOptimization(config, given, findings);
  checkNoise(config, given, findings);
  checkImages(config, given, findings);
  checkValidation(config, findings);
  checkSharding(config, findings);
  checkPush(config, findings);
  return found;
}

function checkPush({ push_to_hub, lr_range_test }: TrainConfig, findings: Findings): void {
  if (push_to_hub === undefined) return;
  const id = parseHubId(push_to_hub);
  if (id === undefined || id.revision !== undefined) {
    findings.error("push_to_hub", `"${push_to_hub}" is no repository of a hub; give owner/name`);
  }
  if (lr_range_test) findings.note("push_to_hub", "has no effect on a range test");
}

function checkSharding(config: TrainConfig, findings: Findings): void {
  if (config.zero_stage === 0) return;
  if (config.training_type === "lora") {
    findings.note(
      "zero_stage",
      "has no effect on adapters, which are too small to shard; the frozen weights can be streamed",
    );
    return;
  }
  if (!optimizers[config.optimizer].shardable) {
    findings.error(
      "zero_stage",
      `${config.zero_stage}: optimizer ${config.optimizer} cannot be sharded; use ${optimizersThat("shardable")}`,
    );
  }
  if (config.ema_decay > 0) {
    findings.error("ema_decay", `${config.ema_decay}: no average is kept of sharded weights; use 0, or zero_stage 0`);
  }
}

function checkModel(config: TrainConfig, findings: Findings): void {
  const { model, model_name, model_type } = config;
  if (model !== undefined && modelNameOf(model) !== model_name) {
    findings.error("model_name", `model "${model}" is trained as ${modelNameOf(model)}, found ${model_name}`);
  }
  if (!model_name.endsWith(model_type)) {
    findings.error("model_type", `${model_name} is a ${model_name.slice(-3)} model, found ${model_type}`);
  }
  const half = config.mixed_precision === "fp16";
  if (half && model !== "2b" && model !== "tiny-2b") {
    findings.note(
      "mixed_precision",
      "only CogVideoX-2b was trained in fp16; the other models overflow in it, use bf16",
    );
  }
  if (isDrawn(config)) checkDrawn(config, findings);
}

/** What a run on random clips can't do. */
function checkDrawn(config: TrainConfig, findings: Findings): void {
  const why = "random_weights without model_path leaves nothing to encode with";
  for (const key of ["do_validation", "heldout_root", "init_lora", "push_to_hub"] as const) {
    const value = config[key];
    if (value !== undefined && value !== false) {
      findings.error(key, `${value}: ${why}; set model_path, or leave it out`);
    }
  }
  if (config.data_root !== undefined) {
    findings.note("data_root", `has no effect: ${why}, so latents are drawn at random`);
  }
}

/**
 * Frames must be 8N + 1: one frame, then groups of 4 per latent frame, an even number of them. Sizes: 8 per latent
 * pixel, 2 per patch.
 */
function checkShape(
  key: "train_resolution" | "buckets",
  shape: Resolution,
  config: TrainConfig,
  findings: Findings,
): void {
  const [frames, height, width] = shape;
  const where = key === "buckets" ? `${shape.join("x")}: ` : "";
  const named: Findings = {
    error: (key, message) => findings.error(key, `${where}${message}`),
    note: (key, message) => findings.note(key, `${where}${message}`),
  };
  if ((frames - 1) % 8 !== 0) {
    const below = Math.floor((frames - 1) / 8) * 8 + 1;
    named.error(key, `${frames} frames: expected 8N + 1 frames; use ${below} or ${below + 8}`);
  }
  for (const [name, size] of [["height", height], ["width", width]] as const) {
    if (size % 16 === 0) continue;
    const below = Math.floor(size / 16) * 16;
    const nearest = below === 0 ? "16" : `${below} or ${below + 16}`;
    named.error(key, `${name} ${size}: expected a multiple of 16; use ${nearest}`);
  }
  checkUsualShape(key, shape, config, named);
}

function checkBuckets(config: TrainConfig, findings: Findings): void {
  const { buckets } = config;
  for (const shape of bucketShapes([...new Set(buckets)])) checkShape("buckets", shape, config, findings);
  const repeated = buckets.find((bucket, i) => buckets.indexOf(bucket) < i);
  if (repeated !== undefined) findings.error("buckets", `${repeated}: is listed twice; name each shape once`);
}

function checkUsualShape(
  key: "train_resolution" | "buckets",
  [frames, height, width]: Resolution,
  { model, model_name }: TrainConfig,
  findings: Findings,
): void {
  // Of a folder whose name says no released model, this file does not know what it was trained at.
  if (model === undefined || model.startsWith("tiny-")) return;
  if (model === "5b-i2v" && (height !== 480 || width !== 720)) {
    findings.error(key, `${height}x${width}: the learned positions of 5b-i2v exist for 480x720 only`);
    return;
  }
  const version15 = namesVersion15(model_name);
  const [low, high] = [Math.min(height, width), Math.max(height, width)];
  const usual = version15 ? low === 768 && high <= 1360 : height === 480 && width === 720;
  if (!usual) {
    const native = version15 ? "768x1360" : "480x720";
    findings.note(
      key,
      `${height}x${width}: the model was trained at ${native}; far from it, quality falls`,
    );
  }
  const [step, most] = version15 ? [16, 161] : [8, 49];
  if ((frames - 1) % 8 === 0 && ((frames - 1) % step !== 0 || frames > most)) {
    findings.note(key, `${frames} frames: the model expects ${step}N + 1 frames, at most ${most}`);
  }
}

function checkAdapters(config: TrainConfig, given: (key: keyof TrainConfig) => boolean, findings: Findings): void {
  if (config.training_type === "sft") {
    for (const key of [...adapterKeys, "lora_dropout"] as const) {
      if (given(key)) findings.note(key, "has no effect on sft, which trains all weights");
    }
    if (config.init_lora !== undefined) {
      findings.error("init_lora", "sft has no adapters; add the LoRA to the weights with cogtune lora merge first");
    }
    if (config.base_weights === "int8" || config.base_weights === "nf4") {
      findings.error(
        "base_weights",
        `${config.base_weights} weights cannot be trained; use resident or streamed for sft`,
      );
    }
    return;
  }
  if (config.init_lora !== undefined && config.resume_from_checkpoint !== undefined) {
    findings.note("init_lora", "has no effect on a run that continues a checkpoint");
  }
  for (const [key, least] of [["rank_pattern", 1], ["alpha_pattern", Number.MIN_VALUE]] as const) {
    for (const { pattern, value } of layerValues(config[key])) {
      if (value < least || value > 4096) {
        findings.error(key, `${pattern}=${value}: expected a number above 0, at most 4096`);
      }
    }
  }
  if (config.use_dora && config.lora_dropout > 0) {
    findings.error(
      "lora_dropout",
      `${config.lora_dropout}: DoRA is trained without dropout; use 0, or use_dora: false`,
    );
  }
  const scale = config.lora_alpha / (config.use_rslora ? Math.sqrt(config.rank) : config.rank);
  if (isWeak(scale)) {
    findings.note(
      "lora_alpha",
      `lora_alpha / ${config.use_rslora ? "sqrt(rank)" : "rank"} is ${
        scale.toPrecision(2)
      }, which learns poorly; use ${config.rank} or ${config.rank / 2}`,
    );
  }
  if (config.rank < 64 && !config.model?.startsWith("tiny-")) {
    findings.note("rank", `${config.rank}: a rank of 64 or more is recommended for a subject or a style`);
  }
}

function checkMemory({ gradient_checkpointing, keep, offload_activations }: TrainConfig, findings: Findings): void {
  if (gradient_checkpointing) return;
  const reason = "has no effect without gradient_checkpointing, which keeps nothing but block inputs";
  if (offload_activations) findings.note("offload_activations", reason);
  if (keep.length > 0) findings.note("keep", reason);
}

/** Weights in bf16 alone: who rounds them, and who would need more digits than they have. */
function checkMasterWeights(config: TrainConfig, findings: Findings): void {
  const { master_weights, training_type, mixed_precision, optimizer, zero_stage, ema_decay } = config;
  if (master_weights === "f32") return;
  const refuse = (reason: string) =>
    findings.error("master_weights", `${master_weights}: ${reason}, or master_weights f32`);
  if (training_type !== "sft") {
    refuse(`adapters keep f32 masters, found training_type ${training_type}; use training_type sft`);
  }
  if (mixed_precision !== "bf16") {
    refuse(
      `the model reads these weights as they are, found mixed_precision ${mixed_precision}; use mixed_precision bf16`,
    );
  }
  if (!optimizers[optimizer].bf16) {
    refuse(`optimizer ${optimizer} updates f32 masters only; use optimizer ${optimizersThat("bf16")}`);
  }
  if (zero_stage !== 0) refuse(`zero_stage ${zero_stage} shards f32 masters only; use zero_stage 0`);
  if (ema_decay > 0) refuse(`ema_decay ${ema_decay} averages f32 masters only; use ema_decay 0`);
}

function checkOptimization(config: TrainConfig, given: (key: keyof TrainConfig) => boolean, findings: Findings): void {
  if (config.lr_range_test && config.profile > 0) findings.note("profile", "has no effect on a range test");
  const { advise }: Optimizer = optimizers[config.optimizer];
  for (const { key, message } of advise?.(config, given) ?? []) findings.note(key, message);
  const warms = config.lr_scheduler !== "constant";
  if (warms && config.train_steps !== undefined && config.lr_warmup_steps >= config.train_steps) {
    findings.note(
      "lr_warmup_steps",
      `${config.lr_warmup_steps}: the run has ${config.train_steps} steps, so the learning rate never reaches its peak`,
    );
  }
  if (config.lr_scheduler === "polynomial" && config.learning_rate <= 1e-7) {
    findings.error("learning_rate", `${config.learning_rate}: polynomial ends at 1e-7, so it must start above`);
  }
  if (config.lr_range_min >= config.lr_range_max) {
    findings.error("lr_range_max", `${config.lr_range_max}: expected more than lr_range_min, ${config.lr_range_min}`);
  }
  if (config.lr_range_test && config.resume_from_checkpoint !== undefined) {
    findings.error("lr_range_test", "begins with the initial weights; drop resume_from_checkpoint");
  }
  if (config.frame_selection === "stride" && given("fps")) {
    findings.note("fps", "has no effect on frame_selection: stride, which ignores the frame rate");
  }
}

function checkNoise(config: TrainConfig, given: (key: keyof TrainConfig) => boolean, findings: Findings): void {
  const { timestep_min, timestep_max } = config;
  if (timestep_max !== undefined && timestep_max < timestep_min) {
    findings.error("timestep_max", `${timestep_max}: expected at least timestep_min, which is ${timestep_min}`);
  }
  if (config.timestep_sampling === "logit_normal") return;
  for (const key of ["timestep_logit_mean", "timestep_logit_std"] as const) {
    if (given(key)) findings.note(key, "has no effect without timestep_sampling: logit_normal");
  }
}

function checkImages(config: TrainConfig, given: (key: keyof TrainConfig) => boolean, findings: Findings): void {
  if (config.model_type === "i2v") {
    if (config.image_column === undefined) {
      findings.note("image_column", "not set: images.txt is used where it exists, else the first frame of each clip");
    }
    return;
  }
  for (const key of ["image_column", "image_scale", "image_noise", "condition_dropout", "validation_images"] as const) {
    if (given(key)) findings.note(key, "has no effect on text to video");
  }
}

function checkValidation(config: TrainConfig, findings: Findings): void {
  if (config.heldout_root === undefined) {
    for (const key of ["keep_best", "early_stop"] as const) {
      if (config[key]) findings.error(key, "needs heldout_root, whose loss it looks at");
    }
  }
  if (!config.do_validation) return;
  for (const key of ["validation_dir", "validation_prompts", "validation_steps"] as const) {
    if (config[key] === undefined) findings.error(key, "must be set when do_validation is true");
  }
  if (config.model_type === "i2v" && config.validation_images === undefined) {
    findings.error("validation_images", "must be set when do_validation is true and the model is image to video");
  }
  // A sample can then be made again: the weights it shows are on disk.
  const steps = config.validation_steps;
  if (steps !== undefined && steps % config.checkpointing_steps !== 0) {
    findings.error(
      "validation_steps",
      `${steps}: expected a multiple of checkpointing_steps, which is ${config.checkpointing_steps}`,
    );
  }
}
