/** What changed between the config of a checkpoint and the config of the run that continues it. */
import { UserErrors } from "../errors.ts";
import type { TrainConfig } from "./record.ts";

/** Keys that the saved weights or optimizer state have the shape or the scale of. */
const fixedKeys: readonly (keyof TrainConfig)[] = [
  "model",
  "model_name",
  "model_type",
  "training_type",
  "optimizer",
  "master_weights",
];

/** The same of adapters, which mean nothing to sft. */
export const adapterKeys: readonly (keyof TrainConfig)[] = [
  "rank",
  "lora_alpha",
  "target_modules",
  "rank_pattern",
  "alpha_pattern",
  "use_rslora",
  "use_dora",
];

/** Keys that say how or where the run works, and not what it computes. */
const freeKeys: readonly (keyof TrainConfig)[] = [
  "output_dir",
  "report_to",
  "log_every",
  "resume_from_checkpoint",
  "init_lora",
  "checkpointing_steps",
  "checkpointing_limit",
  "keep_best",
  "push_to_hub",
  "engine",
  "tune",
  "profile",
  "dry_run",
  "cache_dir",
  "gpu_memory",
  "gradient_checkpointing",
  "keep",
  "offload_activations",
  "offload_optimizer",
];

/**
 * Compares the config stored with a checkpoint with the one that continues it. Returns a line for every change after
 * which the run no longer equals an uninterrupted one. Throws UserErrors that list all changes the saved state cannot
 * follow.
 */
export function requireResumable(saved: TrainConfig, current: TrainConfig): string[] {
  const show = (value: unknown) => value === undefined ? "unset" : Array.isArray(value) ? value.join(" ") : `${value}`;
  const [fixed, free] = current.training_type === "lora"
    ? [[...fixedKeys, ...adapterKeys], freeKeys]
    : [fixedKeys, [...freeKeys, ...adapterKeys]];
  const keys = [...new Set([...Object.keys(saved), ...Object.keys(current)])] as (keyof TrainConfig)[];
  const changed = keys.filter((key) => JSON.stringify(saved[key]) !== JSON.stringify(current[key]));
  const line = (key: keyof TrainConfig) => `${key}: ${show(saved[key])} in the checkpoint, ${show(current[key])} here`;
  const problems = changed.filter((key) => fixed.includes(key)).map(line);
  if (problems.length > 0) {
    throw new UserErrors(
      "Cannot continue this checkpoint",
      problems,
      "Use the checkpoint's values, or start a run of its own without resume_from_checkpoint",
    );
  }
  return changed.filter((key) => !free.includes(key)).map(line);
}
