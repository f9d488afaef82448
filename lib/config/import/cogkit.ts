/** CogKit: a YAML file with the names of the original trainer's flags. */
import { configKeys, keysWithoutEffect } from "../schema.ts";
import {
  type ForeignRule,
  type ForeignTrainer,
  isYes,
  ofServices,
  ofTorch,
  precision,
  reports,
  textOf,
  without,
} from "./foreign.ts";

const same = configKeys.filter((key) => key !== "preset" && !Object.hasOwn(keysWithoutEffect, key));

/** Keys that CogKit reads and then leaves alone, because its adapters and schedule are fixed. */
const fixed = (now: string): ForeignRule => (value) => ({
  why: `CogKit has no use for its ${textOf(value)} either: it always trains with ${now}`,
});

/** `config.yaml` of CogKit's quickstart/scripts. */
export const cogkitConfig: ForeignTrainer = {
  name: "cogkit",
  title: "config.yaml of CogKit's quickstart/scripts",
  recognises: ({ kind, values }) => kind === "yaml" && values.has("model_name") && values.has("training_type"),
  rules: {
    ...ofTorch,
    ...ofServices,
    ...Object.fromEntries(same.map((key): [string, ForeignRule] => [key, key])),
    model_name: (value) =>
      textOf(value).startsWith("cogvideox")
        ? { set: { model_name: textOf(value) } }
        : { why: `${textOf(value)} is no CogVideoX model: only its settings are taken over` },
    mixed_precision: precision,
    train_resolution: (value) => ({ set: { train_resolution: textOf(value).replace(/[\s,]+/g, "x") } }),
    report_to: reports,
    strategy: (value) =>
      textOf(value) === "DDP"
        ? { why: "several GPUs: gpus" }
        : { set: { zero_stage: /FULL|HYBRID_SHARD$/.test(textOf(value)) ? 3 : 2 }, why: "needs gpus above 1" },
    offload_params_grads: (value) => isYes(value) ? { set: { offload_optimizer: true } } : {},
    no_grad_sync_when_accumulating: without("gradients are exchanged once per optimizer step"),
    enable_packing: without("is for pictures of several sizes"),
    low_vram: (value) => isYes(value) ? { set: { base_weights: "nf4" } } : {},
    rank: fixed("rank 128"),
    lora_alpha: fixed("alpha 64"),
    target_modules: fixed("to_q, to_k, to_v and to_out.0"),
    optimizer: fixed("AdamW"),
    lr_scheduler: fixed("a cosine"),
    resume_from_checkpoint: without("checkpoints of other trainers hold another state; init_lora takes their LoRA"),
    do_validation: without("prompts lie in lists here: validation_dir, validation_prompts, validation_steps"),
    validation_steps: without("prompts lie in lists here: validation_dir, validation_prompts, validation_steps"),
  },
  defaults: { lora_alpha: 64, lr_scheduler: "cosine" },
};
