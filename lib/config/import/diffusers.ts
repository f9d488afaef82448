/** The example scripts of diffusers, which CogVideo's first scripts and CogVideoX-Fun's flags descend from. */
import {
  type ForeignRule,
  type ForeignSource,
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

/** Three flags that make one shape; the first of them writes it. */
function shape(_value: unknown, { values }: ForeignSource): { readonly set: Readonly<Record<string, unknown>> } {
  const number = (key: string, otherwise: number) => Number(textOf(values.get(key) ?? otherwise));
  const frames = number("max_num_frames", 49);
  return { set: { train_resolution: `${frames}x${number("height", 480)}x${number("width", 720)}` } };
}

const validation = without(
  "put the prompts into a file, one a line: validation_dir, validation_prompts, validation_steps",
);

/** Flags that VideoX-Fun has from these scripts. */
export const shared: Readonly<Record<string, ForeignRule>> = {
  ...ofTorch,
  ...ofServices,
  cache_dir: without("models are kept in ~/.cache/cogtune"),
  revision: without("a revision stands behind the hub id: owner/name@revision"),
  variant: without("files are found by what they hold"),
  seed: "seed",
  rank: "rank",
  mixed_precision: precision,
  output_dir: "output_dir",
  train_batch_size: "batch_size",
  num_train_epochs: "train_epochs",
  max_train_steps: "train_steps",
  checkpointing_steps: "checkpointing_steps",
  checkpoints_total_limit: "checkpointing_limit",
  resume_from_checkpoint: without("checkpoints of other trainers hold another state; init_lora takes their LoRA"),
  gradient_accumulation_steps: "gradient_accumulation_steps",
  gradient_checkpointing: yes("gradient_checkpointing"),
  learning_rate: "learning_rate",
  scale_lr: (value) =>
    isYes(value) ? { why: "multiply learning_rate by batch size, accumulation and GPUs yourself" } : {},
  lr_scheduler: "lr_scheduler",
  lr_warmup_steps: "lr_warmup_steps",
  lr_num_cycles: "lr_num_cycles",
  lr_power: "lr_power",
  adam_beta1: "beta1",
  adam_beta2: "beta2",
  adam_weight_decay: "weight_decay",
  adam_epsilon: "epsilon",
  max_grad_norm: "max_grad_norm",
  use_8bit_adam: (value) => isYes(value) ? { set: { optimizer: "adamw8bit" } } : {},
  validation_prompts: validation,
  validation_prompt: validation,
  validation_epochs: validation,
  validation_steps: validation,
  report_to: reports,
};

/** `train_cogvideox_lora.py` and `train_cogvideox_image_to_video_lora.py`. */
export const diffusers: ForeignTrainer = {
  name: "diffusers",
  title: "train_cogvideox_lora.py of diffusers and of CogVideo's first scripts",
  recognises: ({ kind, program, values }) =>
    kind === "command" && (/train_cogvideox\w*_lora\.py$/.test(program) || values.has("instance_data_root")),
  rules: {
    ...shared,
    pretrained_model_name_or_path: "model_path",
    instance_data_root: "data_root",
    dataset_name: without("download the dataset and set data_root"),
    dataset_config_name: without("download the dataset and set data_root"),
    video_column: "video_column",
    caption_column: "caption_column",
    id_token: "id_token",
    height: shape,
    width: shape,
    max_num_frames: shape,
    fps: "fps",
    skip_frames_start: without("cut the clips: the first frames are used here"),
    skip_frames_end: without("cut the clips: the first frames are used here"),
    random_flip: without("clips are not mirrored; text and hands would be"),
    video_reshape_mode: (value) =>
      textOf(value) === "center"
        ? { set: { crop: "fill" } }
        : { set: { crop: "fill" }, why: "cut evenly from both sides, in place of a random place" },
    lora_alpha: "lora_alpha",
    target_modules: layers,
    optimizer,
    adam_beta3: "beta3",
    prodigy_beta3: "beta3",
    prodigy_decouple: without("Prodigy always decays apart from the gradient"),
    prodigy_use_bias_correction: without("Prodigy follows its paper"),
    prodigy_safeguard_warmup: without("Prodigy follows its paper"),
    enable_slicing: yes("enable_slicing"),
    enable_tiling: yes("enable_tiling"),
    noised_image_dropout: "condition_dropout",
    ignore_learned_positional_embeddings: without("learned positions stay as the model has them"),
    validation_images: validation,
    validation_prompt_separator: validation,
    num_validation_videos: validation,
    guidance_scale: "guidance_scale",
    use_dynamic_cfg: yes("use_dynamic_cfg"),
  },
  defaults: {
    lora_alpha: 128,
    learning_rate: 1e-4,
    lr_scheduler: "constant",
    optimizer: "adam",
    gradient_checkpointing: false,
    checkpointing_steps: 500,
    train_epochs: 1,
  },
};
