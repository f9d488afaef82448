/** diffusion-pipe: a TOML file; it trains other models, so that the model has to be chosen. */
import { type ForeignRule, type ForeignTrainer, isYes, optimizer, precision, textOf, without } from "./foreign.ts";

const saves = without("say it in optimizer steps: checkpointing_steps");
const measures = without("say it in optimizer steps: heldout_steps");
const pipeline = without("the model is not cut over GPUs; gpus trains on several, base_weights: streamed saves memory");

/** `[optimizer]` tables name two betas, or three for Prodigy and CAME. */
const betas: ForeignRule = (value) => {
  const numbers = Array.isArray(value) ? value : [];
  return { set: Object.fromEntries(numbers.slice(0, 3).map((beta, i) => [`beta${i + 1}`, beta])) };
};

/** The file that is given to `train.py --config`. */
export const diffusionPipe: ForeignTrainer = {
  name: "diffusion_pipe",
  title: "the TOML file of diffusion-pipe's train.py --config",
  recognises: ({ kind, values }) =>
    kind === "toml" && values.has("model.type") && (values.has("dataset") || values.has("optimizer.type")),
  rules: {
    "output_dir": "output_dir",
    "dataset": (value) => ({
      set: { data_root: textOf(value) },
      why: "its resolutions and frame buckets are not read: set buckets",
    }),
    "eval_datasets.0.config": "heldout_root",
    "eval_datasets.0.name": without("held-out clips need no name"),
    "epochs": "train_epochs",
    "max_steps": "train_steps",
    "micro_batch_size_per_gpu": (value) =>
      Array.isArray(value)
        ? { why: "one batch size for the one shape of a run: batch_size" }
        : { set: { batch_size: value } },
    "image_micro_batch_size_per_gpu": without("pictures and clips are runs of their own"),
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "warmup_steps": "lr_warmup_steps",
    "lr_scheduler": "lr_scheduler",
    "force_constant_lr": (value) => ({ set: { learning_rate: value, lr_scheduler: "constant" } }),
    "pseudo_huber_c": without("the loss is the mean square"),
    "pipeline_stages": (value) => Number(value) > 1 ? { why: "the model is not cut over GPUs: gpus" } : {},
    "partition_method": pipeline,
    "partition_split": pipeline,
    "blocks_to_swap": (value) =>
      Number(value) > 0 ? { set: { base_weights: "streamed" }, why: "all blocks are streamed" } : {},
    "activation_checkpointing": (value) =>
      textOf(value) === "unsloth"
        ? { set: { gradient_checkpointing: true, offload_activations: true } }
        : { set: { gradient_checkpointing: isYes(value) } },
    "reentrant_activation_checkpointing": without("belongs to PyTorch and needs no setting here"),
    "save_every_n_steps": "checkpointing_steps",
    "save_every_n_epochs": saves,
    "save_every_n_examples": saves,
    "checkpoint_every_n_epochs": saves,
    "checkpoint_every_n_minutes": saves,
    "eval_every_n_steps": "heldout_steps",
    "eval_every_n_epochs": measures,
    "eval_every_n_examples": measures,
    "eval_before_first_step": without("the first measurement is always made before the first step"),
    "eval_micro_batch_size_per_gpu": without("held-out clips are measured one at a time"),
    "eval_gradient_accumulation_steps": without("held-out clips are measured one at a time"),
    "disable_block_swap_for_eval": without("streaming is the same in every phase"),
    "caching_batch_size": without("clips are encoded one at a time, in tiles"),
    "map_num_proc": without("clips are decoded while others are encoded"),
    "steps_per_print": "log_every",
    "video_clip_mode": (value) =>
      textOf(value) === "single_beginning" ? {} : { why: "a clip is used from its beginning: cut it before" },
    "save_dtype": without("adapters are saved in float32; lora export converts them"),
    "compile": without("kernels are always compiled for the shapes of the run"),
    "model.type": (value, { values }) => ({
      ...(values.has("adapter.type") ? {} : { set: { training_type: "sft" } }),
      why: `${textOf(value)} is no CogVideoX model: set model_path, or take a preset`,
    }),
    "model.dtype": precision,
    "model.transformer_dtype": (value) =>
      /float8/.test(textOf(value))
        ? { set: { base_weights: "int8" }, why: "8-bit weights with scales, in place of fp8" }
        : { why: "model.dtype says how the model computes" },
    "model.timestep_sample_method": (value) => ({ set: { timestep_sampling: textOf(value) } }),
    "adapter.type": (value) =>
      textOf(value) === "lora"
        ? { set: { training_type: "lora" } }
        : { set: { training_type: "lora" }, why: `in place of ${textOf(value)}` },
    "adapter.rank": (value) => ({ set: { rank: value, lora_alpha: value } }),
    "adapter.dropout": "lora_dropout",
    "adapter.dtype": without("adapters train in float32"),
    "adapter.init_from_existing": "init_lora",
    "optimizer.type": optimizer,
    "optimizer.lr": "learning_rate",
    "optimizer.betas": betas,
    "optimizer.weight_decay": "weight_decay",
    "optimizer.eps": "epsilon",
    "optimizer.stabilize": without("updates are bounded by max_grad_norm"),
    "monitoring.enable_wandb": without("every run has a page and metrics.jsonl; no figures leave the machine"),
  },
  defaults: { lr_scheduler: "constant_with_warmup", weight_decay: 0.01, beta2: 0.999 },
};
