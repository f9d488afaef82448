/** VideoX-Fun: scripts around its own CogVideoX-Fun checkpoints, in the manner of diffusers' examples. */
import { resolve } from "node:path";
import { shared } from "./diffusers.ts";
import { type ForeignRule, type ForeignTrainer, isYes, layers, textOf, without } from "./foreign.ts";

/** The released model that a CogVideoX-Fun checkpoint was made of. */
const model: ForeignRule = (value, { values }) => {
  const name = textOf(value).toLowerCase();
  if (!name.includes("fun")) return { set: { model_path: textOf(value) } };
  const size = name.includes("1.5") ? "1.5-5B" : name.includes("2b") ? "-2b" : "-5b";
  const usesImages = textOf(values.get("train_mode") ?? "normal") !== "normal" && size !== "-2b";
  return {
    set: { model_path: `THUDM/CogVideoX${size}${usesImages ? "-I2V" : ""}` },
    why: "in place of CogVideoX-Fun, whose transformer has inputs for masks that are not trained here",
  };
};

/** Clips that are named relative to `train_data_dir`. */
const table: ForeignRule = (value, { values, folder }) => {
  const [meta, data] = [textOf(value), textOf(values.get("train_data_dir") ?? "")];
  const isInside = resolve(folder, meta, "..") === resolve(folder, data);
  return {
    set: { data_root: meta },
    ...(isInside || data === "" ? {} : { why: `its paths start at its own folder here, not at ${data}` }),
  };
};

const areas = without(
  "VideoX-Fun makes buckets of this area; name their shapes in buckets, or one in train_resolution",
);

/** `train_lora.py` and `train.py` of scripts/cogvideox_fun. */
export const videoxFun: ForeignTrainer = {
  name: "videox_fun",
  title: "train_lora.py and train.py of VideoX-Fun's scripts/cogvideox_fun",
  recognises: ({ kind, values }) =>
    kind === "command" &&
    ["train_data_meta", "video_sample_n_frames", "video_sample_stride"].some((key) => values.has(key)),
  rules: {
    ...shared,
    pretrained_model_name_or_path: model,
    train_mode: (value) =>
      textOf(value) === "normal" ? {} : { why: "pictures condition the I2V models; masks are not trained here" },
    train_data_meta: table,
    train_data_dir: (_value, { values }) =>
      values.has("train_data_meta") ? { why: "the table of train_data_meta is data_root" } : { why: "set data_root" },
    video_sample_size: areas,
    image_sample_size: areas,
    token_sample_size: areas,
    fix_sample_size: (value) => {
      const [height, width] = textOf(value).split(/\s+/).map(Number);
      return { why: `set train_resolution with height ${height} and width ${width}` };
    },
    video_sample_n_frames: without("stands in train_resolution here: frames, height and width"),
    video_sample_stride: without("frames are chosen by time here: set fps to the clips' rate divided by the stride"),
    video_repeat: without("repeats stand in datasets.yaml here"),
    enable_bucket: areas,
    random_hw_adapt: areas,
    random_frame_crop: areas,
    random_ratio_crop: areas,
    training_with_video_token_length: areas,
    network_alpha: "lora_alpha",
    target_name: layers,
    use_peft_lora: without("adapters are saved with PEFT's names"),
    low_vram: (value) =>
      isYes(value) ? { why: "encoders leave the GPU before training; plan --fit finds what saves more" } : {},
    vae_mini_batch: without("clips are encoded one at a time, in tiles"),
    snr_loss: (value) => isYes(value) ? { set: { snr_gamma: 5 } } : {},
    noise_offset: "noise_offset",
    use_ema: (value) => isYes(value) ? { set: { ema_decay: 0.9999 } } : {},
    use_came: (value) => isYes(value) ? { set: { optimizer: "came" } } : {},
    motion_sub_loss: without("there is no loss of motion here"),
    motion_sub_loss_ratio: without("there is no loss of motion here"),
    train_text_encoder: without("the text encoder is not trained"),
    trainable_modules: (value) =>
      textOf(value) === "." || textOf(value) === ""
        ? { set: { training_type: "sft" } }
        : { set: { training_type: "sft" }, why: `all layers train, in place of ${textOf(value)}` },
    trainable_modules_low_learning_rate: without("all weights have one learning rate"),
    transformer_path: without("give a whole pipeline folder as model_path"),
    vae_path: without("give a whole pipeline folder as model_path"),
    config_path: without("follows from the model"),
    save_state: without("every checkpoint can be continued"),
    uniform_sampling: without("timesteps are drawn uniformly unless timestep_sampling says otherwise"),
  },
  defaults: {
    lora_alpha: 64,
    learning_rate: 1e-4,
    lr_scheduler: "constant",
    beta2: 0.999,
    weight_decay: 0.01,
    batch_size: 16,
    train_epochs: 100,
    gradient_checkpointing: false,
    checkpointing_steps: 500,
  },
};
