/**
 * Why keys are there and when to touch them, which neither their type nor their description says. Effects are figures
 * of `plan`, of tables in docs/ or of the arithmetic behind a key; what is not known is not said.
 */
import type { TrainConfig } from "./record.ts";

/** What experience and measurement add to the description of a key. */
export interface Reason {
  /** When to change it, and what happens then. */
  readonly why: string;
  /** What it was seen or computed to change, with the conditions. */
  readonly effect?: string;
}

/** By key; a key that explains itself has none. */
export const reasons: Readonly<Partial<Record<keyof TrainConfig, Reason>>> = {
  model: {
    why: "Only needed where `model_path` is a folder whose name does not tell, or for `plan` without a model.",
  },
  model_path: {
    why: "A hub id is downloaded once, from one commit, into ~/.cache/cogtune/models; a folder is read where it is.",
  },
  training_type: {
    why:
      "A LoRA learns a subject, a style or a motion from tens of clips and stays a small file. `sft` changes the whole " +
      "model: for thousands of clips, and for a checkpoint of its own size.",
    effect: "GPU memory forecast for 2b at 49x480x720: 7.0 GiB for `2b-lora`, 31.4 GiB for `2b-sft` (docs/memory.md).",
  },
  random_weights: { why: "For measuring and testing shapes whose weights are not at hand; the result is noise." },
  data_root: { why: "`data check` says what is wrong with it before a run does, and what training will cut away." },
  dataset_format: { why: "Only needed where a folder could be read in two ways; `data check` says which way it took." },
  allow_outside: {
    why: "Off, a list that was made by someone else cannot make the program read files that lie elsewhere.",
  },
  id_token: {
    why:
      "A rare word that the model ties to the new subject, as `ohwx`, so that prompts can call it. End it with a space, " +
      "which parts it from the caption.",
  },
  caption_dropout: { why: "Keeps the unconditional half of classifier-free guidance in step with what is learnt." },
  train_resolution: {
    why:
      "Frames must be 8N + 1, sizes multiples of 16. Far from the shape that the model was made for it must relearn " +
      "positions; smaller shapes cost less memory and time and teach less detail.",
    effect: "Attention grows with the square of the tokens: 1,350 per latent frame at 480x720, 4,080 at 768x1360.",
  },
  buckets: {
    why:
      "For clips of several aspect ratios or lengths: portrait clips keep their picture, short ones are not filled up " +
      "with a frozen frame. Memory is that of the largest bucket; `data check` says how many clips each one gets.",
    effect: "A clip of 9:16 keeps 38 % of its picture in 480x720 and 84 % in 720x480, by the arithmetic of the crop.",
  },
  frame_selection: {
    why: "`time` keeps the speed of motion; `stride` covers the whole clip and speeds motion up where clips are long.",
  },
  fps: { why: "Sample at the rate the model was trained at, or motion is learnt too fast or too slow." },
  crop: { why: "`fill` cuts edges off; `letterbox` teaches black bars where clips have another aspect ratio." },
  cache_dir: {
    why:
      "Clips and prompts are encoded once and found again by content, so a second run begins at once. Put it on a fast " +
      "disk with room.",
  },
  output_dir: { why: "One run, one folder: a run refuses a folder that holds checkpoints it would overwrite." },
  log_every: {
    why: "Every record reads figures back from the GPU, which waits for it; on fast steps a larger number loses less.",
  },
  seed: { why: "Two runs of one command on one machine give the same bits; another seed tells luck from effect." },
  resume_from_checkpoint: {
    why: "`latest` continues with the same bits as if nothing had happened, whether the run was stopped or killed.",
  },
  checkpointing_steps: {
    why: "What a crash may cost at most; a LoRA checkpoint is small, one of `sft` is several models.",
  },
  engine: {
    why:
      "Deno's own engine needs nothing. Dawn shows the matrix units of some drivers, and is an npm package of 133 MB.",
  },
  tune: { why: "Which kernel is fastest depends on the card; the choice is kept per card, and with each checkpoint." },
  profile: { why: "Shows where a step spends its time before switches are changed by guess." },
  dry_run: { why: "Finds every mistake of config, model and data, and the memory that is needed, within seconds." },
  train_epochs: { why: "For small datasets set `train_steps`: an epoch of 25 clips is 25 steps." },
  train_steps: {
    why:
      "A subject from 25 to 50 clips is usually learnt in 1,000 to 4,000 steps; look at validation videos, as the loss " +
      "hardly tells.",
  },
  batch_size: {
    why: "Steadier gradients at the price of memory; `gradient_accumulation_steps` has the same effect without it.",
  },
  gradient_accumulation_steps: {
    why: "A larger batch without more memory: gradients of several micro-steps are summed before an update.",
    effect: "A step takes as many times longer.",
  },
  mixed_precision: {
    why: "Halves weights and activations. CogVideoX-2b was trained in fp16, the others in bf16: they overflow in fp16.",
    effect: "Frozen weights of 2b: 6.31 GiB in f32, 3.16 GiB in fp16 (1.69 billion parameters).",
  },
  matmul_precision: { why: "`exact` compares with float32; `mixed` uses the units that make cards fast." },
  learning_rate: {
    why:
      "The first thing to halve when videos break, and to double when nothing is learnt. LoRA takes 1e-4 to 1e-3, sft " +
      "1e-5 to 2e-5; `lr_range_test` finds the order of magnitude on your clips.",
  },
  optimizer: {
    why: "`adamw` unless memory is short or the learning rate is not known: its state is what others save on.",
    effect: "Bytes of state per trained parameter: 8 for adamw and adam, 4 for came, 2 for adamw8bit, 16 for prodigy.",
  },
  beta2: { why: "0.95 forgets faster than the usual 0.999, which suits runs of a few thousand steps." },
  weight_decay: { why: "Pulls weights back to zero: of an adapter, towards the model as it was." },
  max_grad_norm: { why: "One odd clip cannot throw the weights off; 0 turns clipping off." },
  lr_scheduler: {
    why: "A schedule that falls at the end smooths the last steps; `constant_with_warmup` can be continued.",
  },
  lr_warmup_steps: { why: "The first updates are made with moments of few steps; a warm-up keeps them small." },
  ema_decay: {
    why: "An average over the last steps is steadier than any of them; 0.999 averages about a thousand.",
    effect: "4 more bytes per trained parameter.",
  },
  lr_range_test: { why: "A hundred steps that tell the largest learning rate at which the loss still falls." },
  timestep_sampling: {
    why: "`logit_normal` spends more steps where composition is decided; `uniform` is the original.",
  },
  timestep_min: { why: "A band of timesteps teaches one thing: late ones motion and layout, early ones texture." },
  snr_gamma: {
    why: "Plain loss weighs timesteps unevenly; min-SNR weighting often converges in fewer steps.",
    effect: "The weight at SNR s is min(s, gamma) / (s + 1): with gamma 5, 0.83 at s = 5 and 0.05 at s = 100.",
  },
  noise_offset: { why: "Without it models learn a medium brightness; with too much, colours wash out." },
  rank: {
    why: "How much an adapter can hold. 64 and more for a new subject or motion, 16 to 32 for a style.",
    effect: "2b with the default targets: 58,982,400 trained parameters at rank 128, half of them at 64.",
  },
  lora_alpha: {
    why:
      "The original trainer's default of rank / 2 halves the effect of the learning rate, and files without alpha are " +
      "then loaded at twice the trained strength. Equal to `rank`, the strength is 1 in every loader.",
    effect: "The update is scaled by alpha / rank.",
  },
  target_modules: {
    why:
      "Attention alone learns subjects and styles; adding `ff.net.0.proj` and `ff.net.2` holds more, at more memory.",
  },
  lora_dropout: { why: "Against learning few clips by heart; 0.05 to 0.1 is usual." },
  use_rslora: {
    why: "With alpha / rank the update of a high rank is small; with alpha / sqrt(rank) it is not.",
    effect: "At rank 64 and equal alpha the scale is 8 in place of 1: lower `learning_rate`.",
  },
  use_dora: { why: "Closer to training all weights at low ranks; ranks of 64 and more gain little from it." },
  init_lora: { why: "To continue from a file of another trainer, or to teach a LoRA a second thing." },
  image_scale: { why: "`original` repeats the original trainer; `pipeline` matches what sampling does with 1.5." },
  condition_dropout: { why: "Teaches image to video to follow the prompt where the picture does not tell." },
  gradient_checkpointing: {
    why:
      "The one switch that makes large models fit at all. Off where there is room: steps then compute nothing twice.",
    effect: "Costs a second forward pass of each block: about a quarter of the arithmetic of a step.",
  },
  keep: {
    why: "`attention` keeps the dearest results of a block, so that only the cheap rest is computed again.",
  },
  base_weights: {
    why:
      "Frozen weights are the largest part of a LoRA run. `streamed` gives identical bits and needs a fast link; int8 and " +
      "nf4 change results slightly.",
    effect: "Forecast for `5b-lora`: `streamed` needs 8.1 GiB in place of 18.3, at 11 % more time on an RTX 4090 " +
      "(docs/memory.md).",
  },
  offload_activations: {
    why: "Block inputs wait in host memory between the passes; identical bits, little time on a fast link.",
    effect: "Forecast for `1.5-5b-lora`: 16.1 GiB in place of 27.3, at 2 % more time on an RTX 4090 (docs/memory.md).",
  },
  master_weights: {
    why: "Full fine-tuning on a card that lacks the room for f32 masters.",
    effect: "4 bytes less per trained parameter, 2 of them back with `bf16_kahan`.",
  },
  offload_optimizer: {
    why:
      "Full fine-tuning on one small card: master weights, gradients and moments move to host memory, and the link is " +
      "busy every step.",
    effect:
      "Forecast for `2b-sft`: 8.2 GiB in place of 31.4 with `keep: [attention]`, at 63 % more time on an RTX 4090 " +
      "(docs/memory.md).",
  },
  gpu_memory: { why: "A run that does not fit is refused before weights load, with the switches that make it fit." },
  enable_tiling: { why: "Without it the VAE of a large frame needs more memory than training does." },
  gpus: { why: "Every GPU trains on clips of its own, and gradients are averaged: N GPUs, N clips per micro-step." },
  zero_stage: {
    why: "For `sft` on several GPUs: each keeps a share of what it would otherwise hold whole. Adapters are too small.",
    effect: "Forecast for `2b-sft` per GPU: 31.4 GiB unsharded, 8.6 at stage 2, 5.6 at stage 3 (docs/memory.md).",
  },
  reduction: { why: "`canonical` lets a run continue on another number of GPUs with the same bits." },
  rank_timeout: { why: "A rank that hangs is named and ends the run instead of making all others wait for ever." },
  do_validation: { why: "Videos tell what the loss does not. Every validation costs as much as sampling them." },
  guidance_scale: { why: "Use the same value as when sampling later, or validation judges another model." },
  heldout_root: {
    why:
      "The training loss of a video model is mostly noise of timesteps. At fixed noise on clips that are never trained " +
      "on, it shows when learning turns into learning by heart.",
  },
  keep_best: { why: "The last step is rarely the best one once clips are learnt by heart." },
  push_to_hub: {
    why:
      "Leaves nothing to forget after a night's run. State for resuming, paths and datasets stay here; a failed upload is " +
      "a warning with the command that repeats it, and the run is as finished as without.",
  },
  early_stop: { why: "Ends a run that gets no better, by `heldout_root`." },
};
