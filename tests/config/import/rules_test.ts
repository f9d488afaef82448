/** Single settings of other trainers: what each becomes here, or why it is left out. */
import assert from "node:assert/strict";
import { importConfig } from "../../../lib/config/import/import_config.ts";
import { readForeign } from "../../../lib/config/import/read_foreign.ts";

/** What makes a trainer's config recognisable, and the name of the file. */
const CONFIGS = {
  cogkit: ["c.yaml", "model_name: cogvideox-t2v\ntraining_type: lora\n"],
  diffusers: ["c.sh", "python train_cogvideox_lora.py --instance_data_root . "],
  diffusion_pipe: ["c.toml", 'dataset = "."\n[model]\ntype = "wan"\n'],
  finetrainers: ["c.sh", "python train.py --pretrained_model_name_or_path m --parallel_backend x "],
  original: ["c.sh", "python train.py --model_path m --training_type lora "],
  videox_fun: ["c.sh", "python train.py --video_sample_n_frames 49 "],
} as const;

/** Trainer, its setting, and the settings here, or what is said where there are none. */
const RULES: readonly (readonly [keyof typeof CONFIGS, string, Readonly<Record<string, unknown>> | RegExp])[] = [
  ["cogkit", "strategy: DDP", /several GPUs: gpus/],
  ["cogkit", "strategy: SHARD_GRAD_OP", { zero_stage: 2 }],
  ["cogkit", "strategy: FULL_SHARD", { zero_stage: 3 }],
  ["cogkit", "offload_params_grads: true", { offload_optimizer: true }],
  ["cogkit", "offload_params_grads: false", {}],
  ["cogkit", "low_vram: true", { base_weights: "nf4" }],
  ["cogkit", "low_vram: false", {}],
  ["cogkit", "train_resolution: [49, 480, 720]", { train_resolution: "49x480x720" }],
  ["cogkit", "rank: 64", /always trains with rank 128/],
  ["diffusers", "--height 480", { train_resolution: "49x480x720" }],
  ["diffusers", "--max_num_frames 25 --width 640", { train_resolution: "25x480x640" }],
  ["diffusers", "--scale_lr", /multiply learning_rate/],
  ["diffusers", "--scale_lr false", {}],
  ["diffusers", "--use_8bit_adam", { optimizer: "adamw8bit" }],
  ["diffusers", "--video_reshape_mode center", { crop: "fill" }],
  ["diffusers", "--video_reshape_mode random", { crop: "fill" }],
  ["diffusers", "--optimizer sgd", { optimizer: "adamw" }],
  ["diffusers", "--optimizer AdamW8bitKahan", { optimizer: "adamw8bit" }],
  ["diffusers", "--target_modules '(nothing|known)'", /no layer of the model is named/],
  ["diffusers", "--mixed_precision fp32", { mixed_precision: "no" }],
  ["diffusers", "--mixed_precision fp8", { mixed_precision: "bf16" }],
  ["diffusers", "--num_processes 1", {}],
  ["diffusers", "--num_processes 4", { gpus: 4 }],
  ["diffusers", "--report_to tensorboard", { report_to: "tensorboard" }],
  ["diffusers", "--report_to wandb", /no figures leave the machine/],
  ["diffusion_pipe", "[other]\nmicro_batch_size_per_gpu = 1", /is not known here/],
  ["diffusion_pipe", '[optimizer]\ntype = "prodigy"\nbetas = [0.9, 0.99, 0.999]', {
    optimizer: "prodigy",
    beta1: 0.9,
    beta2: 0.99,
    beta3: 0.999,
  }],
  ["diffusion_pipe", "[optimizer]\nbetas = 0.9", {}],
  ["diffusion_pipe", '[adapter]\ntype = "lora"\nrank = 32', { training_type: "lora", rank: 32, lora_alpha: 32 }],
  ["diffusion_pipe", '[adapter]\ntype = "dora"', { training_type: "lora" }],
  ["finetrainers", "--video_resolution_buckets 49x480x720", { train_resolution: "49x480x720" }],
  ["finetrainers", "--video_resolution_buckets '9x48x80 9x80x48'", { buckets: ["9x48x80", "9x80x48"] }],
  ["finetrainers", "--video_resolution_buckets many", /set train_resolution or buckets/],
  ["finetrainers", "--model_name wan", /wan is no CogVideoX model/],
  ["finetrainers", "--layerwise_upcasting_modules transformer", { base_weights: "int8" }],
  ["finetrainers", "--layerwise_upcasting_modules none", /keeps weights as they are/],
  ["finetrainers", "--video_reshape_mode center", { crop: "fill" }],
  ["finetrainers", "--video_reshape_mode bicubic", { crop: "fill" }],
  ["finetrainers", "--flow_weighting_scheme logit_normal", { timestep_sampling: "logit_normal" }],
  ["finetrainers", "--flow_weighting_scheme none", { timestep_sampling: "uniform" }],
  ["finetrainers", "--flow_weighting_scheme sigma", /sigma is for models of flows/],
  ["finetrainers", "--training_type full-finetune", { training_type: "sft" }],
  ["finetrainers", "--training_type lora", { training_type: "lora" }],
  ["finetrainers", "--use_8bit_bnb", { optimizer: "adamw8bit" }],
  ["finetrainers", "--use_8bit_bnb no", {}],
  ["finetrainers", "--dp_degree 2", { gpus: 2 }],
  ["original", "--low_vram true", /base_weights: nf4/],
  ["videox_fun", "--pretrained_model_name_or_path alibaba-pai/CogVideoX-Fun-V1.5-5b-InP", {
    model_path: "THUDM/CogVideoX1.5-5B",
  }],
  ["videox_fun", "--pretrained_model_name_or_path CogVideoX-Fun-2b-InP --train_mode inpaint", {
    model_path: "THUDM/CogVideoX-2b",
  }],
  ["videox_fun", "--pretrained_model_name_or_path CogVideoX-Fun-5b-InP --train_mode i2v", {
    model_path: "THUDM/CogVideoX-5b-I2V",
  }],
  ["videox_fun", "--pretrained_model_name_or_path THUDM/CogVideoX-2b", { model_path: "THUDM/CogVideoX-2b" }],
  ["videox_fun", "--train_data_dir clips", /set data_root/],
  ["videox_fun", "--fix_sample_size 480 720", /height 480 and width 720/],
  ["videox_fun", "--low_vram", /encoders leave the GPU/],
  ["videox_fun", "--snr_loss", { snr_gamma: 5 }],
  ["videox_fun", "--snr_loss false", {}],
  ["videox_fun", "--use_ema", { ema_decay: 0.9999 }],
  ["videox_fun", "--use_came", { optimizer: "came" }],
  ["videox_fun", "--trainable_modules .", { training_type: "sft" }],
  ["videox_fun", "--trainable_modules attn1 ff", { training_type: "sft" }],
];

/** Rows of diffusion-pipe that stand before its tables. */
const PIPE: readonly (readonly [string, Readonly<Record<string, unknown>> | RegExp])[] = [
  ["micro_batch_size_per_gpu = 3", { batch_size: 3 }],
  ["micro_batch_size_per_gpu = [[512, 2]]", /one batch size for the one shape/],
  ["force_constant_lr = 0.001", { learning_rate: 0.001, lr_scheduler: "constant" }],
  ["pipeline_stages = 2", /the model is not cut over GPUs/],
  ["pipeline_stages = 1", {}],
  ["blocks_to_swap = 20", { base_weights: "streamed" }],
  ["blocks_to_swap = 0", {}],
  ['activation_checkpointing = "unsloth"', { gradient_checkpointing: true, offload_activations: true }],
  ["activation_checkpointing = true", { gradient_checkpointing: true }],
  ['video_clip_mode = "single_beginning"', {}],
  ['video_clip_mode = "multiple_overlapping"', /a clip is used from its beginning/],
];

function read(name: string, text: string) {
  const { settings, left } = importConfig(readForeign(text, `/nowhere/${name}`, "/nowhere"));
  return { settings, left };
}

function check(
  [trainer, setting]: readonly [keyof typeof CONFIGS, string],
  text: string,
  expected: Readonly<Record<string, unknown>> | RegExp,
): void {
  const [name, base] = CONFIGS[trainer];
  const without = read(name, base), { settings, left } = read(name, text);
  const added = new Map([...settings].filter(([key, { value, from }]) => {
    const before = without.settings.get(key);
    return JSON.stringify(before?.value) !== JSON.stringify(value) || before?.from !== from;
  }));
  const why = left.map(({ why }) => why).filter((why) => !without.left.some((before) => before.why === why));
  const label = `${trainer}: ${setting}`;
  if (expected instanceof RegExp) {
    assert.deepEqual([...added.keys()], [], label);
    assert.match(why.join("\n"), expected, label);
    return;
  }
  const values = Object.fromEntries([...added].map(([key, { value }]) => [key, value]));
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(values[key], value, `${label}: ${key}`);
  if (Object.keys(expected).length === 0) assert.deepEqual([values, why], [{}, []], label);
}

Deno.test("settings of other trainers become what they mean, or are left out with a reason", () => {
  for (const [trainer, setting, expected] of RULES) check([trainer, setting], CONFIGS[trainer][1] + setting, expected);
  for (const [setting, expected] of PIPE) {
    check(["diffusion_pipe", setting], `${setting}\n${CONFIGS.diffusion_pipe[1]}`, expected);
  }
});
