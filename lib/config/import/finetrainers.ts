/** finetrainers, formerly cogvideox-factory: `train.py` with flags in the variables of a script. */
import {
  type ForeignRule,
  type ForeignTrainer,
  isYes,
  layers,
  ofServices,
  ofTorch,
  optimizer,
  precision,
  reports,
  textOf,
  without,
  yes,
} from "./foreign.ts";

/** Buckets as 49x480x720. */
const buckets: ForeignRule = (value) => {
  const shapes = textOf(value).trim().split(/\s+/);
  if (!shapes.every((shape) => /^\d+x\d+x\d+$/.test(shape))) return { why: "set train_resolution or buckets" };
  return { set: shapes.length === 1 ? { train_resolution: shapes[0] } : { buckets: shapes } };
};

const flow = without("CogVideoX is trained on velocities over its own schedule, not on flows");

/** The newer `train.py` and the one of 2024. */
export const finetrainers: ForeignTrainer = {
  name: "finetrainers",
  title: "train.sh of finetrainers, or of cogvideox-factory after its renaming",
  recognises: ({ kind, values }) =>
    kind === "command" && values.has("pretrained_model_name_or_path") &&
    ["model_name", "dataset_config", "video_resolution_buckets", "parallel_backend"].some((key) => values.has(key)),
  rules: {
    ...ofTorch,
    ...ofServices,
    model_name: (value) =>
      textOf(value) === "cogvideox"
        ? { why: "follows from the model" }
        : { why: `${textOf(value)} is no CogVideoX model: only its settings are taken over` },
    pretrained_model_name_or_path: "model_path",
    cache_dir: without("models are kept in ~/.cache/cogtune"),
    variant: without("files are found by what they hold"),
    transformer_dtype: precision,
    mixed_precision: precision,
    ...Object.fromEntries(
      ["text_encoder_dtype", "text_encoder_2_dtype", "text_encoder_3_dtype", "vae_dtype"].map((key) => [
        key,
        without("encoders compute in float32"),
      ]),
    ),
    layerwise_upcasting_modules: (value) =>
      /transformer/.test(textOf(value))
        ? { set: { base_weights: "int8" }, why: "8-bit weights with scales, in place of fp8" }
        : { why: "keeps weights as they are" },
    layerwise_upcasting_storage_dtype: without("base_weights says how frozen weights are kept"),
    layerwise_upcasting_skip_modules_pattern: without("norms and embeddings are never quantised"),
    compile_modules: without("kernels are always compiled for the shapes of the run"),
    compile_scopes: without("kernels are always compiled for the shapes of the run"),
    dataset_config: (value) => ({
      set: { data_root: textOf(value) },
      why: "its lists of shapes are not read: set buckets",
    }),
    data_root: "data_root",
    dataset_file: "data_root",
    video_column: "video_column",
    caption_column: "caption_column",
    id_token: (value) => ({
      set: { id_token: `${textOf(value).trim()} ` },
      why: "with the blank that finetrainers adds",
    }),
    video_resolution_buckets: buckets,
    image_resolution_buckets: without("name shapes of one frame in buckets"),
    video_reshape_mode: (value) =>
      textOf(value) === "center"
        ? { set: { crop: "fill" } }
        : { set: { crop: "fill" }, why: "cut evenly from both sides, in place of a random place" },
    caption_dropout_p: "caption_dropout",
    caption_dropout_technique: without("a dropped caption is the empty one"),
    precompute_conditions: without("clips and prompts are always encoded before training"),
    enable_precomputation: without("clips and prompts are always encoded before training"),
    precomputation_items: without("clips and prompts are always encoded before training"),
    precomputation_once: without("clips and prompts are always encoded before training"),
    precomputation_reuse: without("what is encoded is found by its content"),
    precomputation_dir: "cache_dir",
    dataset_shuffle_buffer_size: without("the whole dataset is shuffled"),
    flow_weighting_scheme: (value) =>
      textOf(value) === "logit_normal"
        ? { set: { timestep_sampling: "logit_normal" } }
        : textOf(value) === "none"
        ? { set: { timestep_sampling: "uniform" } }
        : { why: `${textOf(value)} is for models of flows` },
    flow_logit_mean: "timestep_logit_mean",
    flow_logit_std: "timestep_logit_std",
    ...Object.fromEntries(
      ["flow_mode_scale", "flow_shift", "flow_resolution_shifting", "flow_base_shift", "flow_max_shift"]
        .map((key) => [key, flow]),
    ),
    training_type: (value) => ({ set: { training_type: textOf(value) === "lora" ? "lora" : "sft" } }),
    seed: "seed",
    batch_size: "batch_size",
    train_steps: "train_steps",
    train_epochs: "train_epochs",
    rank: "rank",
    lora_alpha: "lora_alpha",
    target_modules: layers,
    gradient_accumulation_steps: "gradient_accumulation_steps",
    gradient_checkpointing: yes("gradient_checkpointing"),
    checkpointing_steps: "checkpointing_steps",
    checkpointing_limit: "checkpointing_limit",
    resume_from_checkpoint: without("checkpoints of other trainers hold another state; init_lora takes their LoRA"),
    enable_slicing: yes("enable_slicing"),
    enable_tiling: yes("enable_tiling"),
    optimizer,
    use_8bit_bnb: (value) => isYes(value) ? { set: { optimizer: "adamw8bit" } } : {},
    lr: "learning_rate",
    lr_scheduler: "lr_scheduler",
    lr_warmup_steps: "lr_warmup_steps",
    lr_num_cycles: "lr_num_cycles",
    lr_power: "lr_power",
    beta1: "beta1",
    beta2: "beta2",
    beta3: "beta3",
    weight_decay: "weight_decay",
    epsilon: "epsilon",
    max_grad_norm: "max_grad_norm",
    ...Object.fromEntries(
      ["validation_dataset_file", "validation_prompts", "validation_steps", "validation_every_n_steps"].map((key) => [
        key,
        without("put the prompts into a file, one a line: validation_dir, validation_prompts, validation_steps"),
      ]),
    ),
    dp_degree: (value) => ({ set: { gpus: Number(textOf(value)) } }),
    ...Object.fromEntries(
      ["pp_degree", "dp_shards", "cp_degree", "tp_degree", "parallel_backend"].map((key) => [
        key,
        without("gpus and zero_stage spread the work here"),
      ]),
    ),
    enable_model_cpu_offload: without("encoders leave the GPU before training"),
    output_dir: "output_dir",
    report_to: reports,
  },
  defaults: {
    lora_alpha: 64,
    mixed_precision: "bf16",
    learning_rate: 1e-4,
    lr_scheduler: "cosine_with_restarts",
    beta3: 0.999,
    gradient_checkpointing: false,
    checkpointing_steps: 500,
  },
};
