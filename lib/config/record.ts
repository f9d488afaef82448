/** The record that says what a run does. Written by `deno task schema` from the groups of keys: change those. */

/** Everything a training run depends on. Keys are the names of the original trainer's command line. */
export interface TrainConfig {
  /**
   * Shape of the model: a released one, or the same architecture at 2 layers (`tiny-...`). Read from the name of
   * `model_path` when unset.
   */
  readonly model?:
    | "2b"
    | "5b"
    | "5b-i2v"
    | "1.5-5b"
    | "1.5-5b-i2v"
    | "tiny-2b"
    | "tiny-5b"
    | "tiny-5b-i2v"
    | "tiny-1.5-5b"
    | "tiny-1.5-5b-i2v"
    | undefined;
  /** Diffusers folder of the pretrained pipeline, or its hub id (owner/name or owner/name@revision). */
  readonly model_path?: string | undefined;
  /** Trainer name of the original command line. Follows from `model` when unset. */
  readonly model_name: "cogvideox-t2v" | "cogvideox-i2v" | "cogvideox1.5-t2v" | "cogvideox1.5-i2v";
  /** Text to video or image to video. Follows from `model_name` when unset. */
  readonly model_type: "t2v" | "i2v";
  /** LoRA adapters on frozen weights, or all weights (sft). Default `lora`. */
  readonly training_type: "lora" | "sft";
  /**
   * Start from random weights of the shape of `model_path`'s config.json instead of reading a checkpoint. Without
   * `model_path` of the shape `model`, or the smallest of `model_name`, on random latents and prompts: for
   * measuring. Default `false`.
   */
  readonly random_weights: boolean;
  /** Folder of the dataset, or the file of a table of clips or of a list of datasets. */
  readonly data_root?: string | undefined;
  /** How the dataset is laid out; found out by what the folder holds when `auto`. Default `auto`. */
  readonly dataset_format: "auto" | "collection" | "lists" | "cogkit" | "table" | "captions";
  /** List of prompts, one per line, below `data_root`; or the column of prompts in a table. Default `prompts.txt`. */
  readonly caption_column: string;
  /** List of clips, one path per line, below `data_root`; or the column of clips in a table. Default `videos.txt`. */
  readonly video_column: string;
  /**
   * List or column of first-frame images for image to video. When unset, images.txt where it exists, else the first
   * frame of each clip.
   */
  readonly image_column?: string | undefined;
  /**
   * Accept clips outside the folder of the dataset, as lists with absolute paths or links name them. Default
   * `false`.
   */
  readonly allow_outside: boolean;
  /** Prompt of the clips that have none of their own. */
  readonly prompt?: string | undefined;
  /** Text put literally in front of every training prompt. */
  readonly id_token?: string | undefined;
  /**
   * Probability with which a clip's prompt is replaced by the empty one, which guidance compares with when
   * sampling; 0.1 is usual. Default `0`.
   */
  readonly caption_dropout: number;
  /**
   * Frames x height x width of a training clip, as 49x480x720 or [49, 480, 720]; sizes in pixels. The shape the
   * model was trained at when unset. With `buckets`, the shape of validation videos.
   */
  readonly train_resolution: readonly [frames: number, height: number, width: number];
  /**
   * Shapes as 49x480x720 25x480x720: every clip is trained at the one that fits it best, and every batch is of one
   * shape. When empty, all clips have `train_resolution`. Default `[]`.
   */
  readonly buckets: readonly string[];
  /**
   * Which frames of a longer clip are used: equal steps in time at `fps`, or every n-th frame so that the whole
   * clip is covered. Default `time`.
   */
  readonly frame_selection: "time" | "stride";
  /**
   * Frames per second that `frame_selection: time` samples at. The rate the model was trained at when unset: 8, or
   * 16 for 1.5.
   */
  readonly fps: number;
  /**
   * How a clip of another aspect ratio is fitted: scaled to cover and cropped, scaled to fit and padded, or
   * distorted. Default `fill`.
   */
  readonly crop: "fill" | "letterbox" | "stretch";
  /** Folder of encoded clips and prompts. `cache` below `data_root` when unset. */
  readonly cache_dir?: string | undefined;
  /**
   * Size in GiB above which entries of the cache that no run uses are removed, those unused longest first. Default
   * `100`.
   */
  readonly cache_limit: number;
  /**
   * Folder for checkpoints, metrics and samples. When unset, the folder of the checkpoint that is continued, or
   * `runs/<date>_<time>`.
   */
  readonly output_dir: string;
  /** Besides metrics.jsonl, which is always written: TensorBoard event files (all means the same). Default `none`. */
  readonly report_to: "none" | "tensorboard" | "all";
  /** Optimizer steps between two progress lines and metric records. Default `1`. */
  readonly log_every: number;
  /** Seed of sample order, noise, timesteps and initial adapters. Default `42`. */
  readonly seed: number;
  /** Checkpoint folder to continue from, or `latest` for the newest one in `output_dir`. */
  readonly resume_from_checkpoint?: string | undefined;
  /** Optimizer steps between checkpoints; one is always written at the end. Default `200`. */
  readonly checkpointing_steps: number;
  /** Newest checkpoints that are kept. Default `10`. */
  readonly checkpointing_limit: number;
  /**
   * Repository of a hub, `owner/name`, to which the command line uploads the result when a run has finished: the
   * best model where `keep_best` keeps one, else the last. It is made private when it does not exist. The access
   * token is read from the environment variable HF_TOKEN. Off when unset.
   */
  readonly push_to_hub?: string | undefined;
  /**
   * WebGPU implementation: Deno's own, Dawn through the npm package `webgpu`, or `auto`: Dawn where it is installed
   * and brings matrix units, else Deno's own. Default `auto`.
   */
  readonly engine: "auto" | "deno" | "dawn";
  /**
   * Whether to measure the variants of a step's products, attention and row operations once on a card and use the
   * fastest: auto on real GPUs alone, not on software drivers. A run that continues keeps the kernels of its
   * checkpoint. Default `auto`.
   */
  readonly tune: "auto" | "always" | "never";
  /**
   * Steps after the first one that are watched: what every kernel family takes and reaches of this card's measured
   * peaks, what the GPU waits for and what would help is printed, and a trace for ui.perfetto.dev written to
   * `output_dir`. 0 is off; results are the same bits. Default `0`.
   */
  readonly profile: number;
  /** Stop before weights are loaded: check the config, print it and the forecast. Default `false`. */
  readonly dry_run: boolean;
  /** Passes over the dataset. Default `10`. */
  readonly train_epochs: number;
  /** Optimizer steps in all; overrides `train_epochs`. */
  readonly train_steps?: number | undefined;
  /** Clips per GPU and micro-step. Default `1`. */
  readonly batch_size: number;
  /** Micro-steps per optimizer step. Default `1`. */
  readonly gradient_accumulation_steps: number;
  /** Storage type of frozen weights and activations; sums are always float32. Default `no`. */
  readonly mixed_precision: "no" | "fp16" | "bf16";
  /**
   * How cards multiply when `mixed_precision` is fp16 or bf16: `mixed` on matrix units, operands rounded to f16
   * under a power of two for each row (a product is at most 2^-10 off, as the tests bound it), or `exact` in
   * float32. Where an engine shows no matrix units, `mixed` takes packed f16 of the same bound if tuning finds it
   * faster. Default `mixed`.
   */
  readonly matmul_precision: "mixed" | "exact";
  /** Peak learning rate. Default `0.00002`. */
  readonly learning_rate: number;
  /**
   * Optimizer, with bytes of state a parameter: adamw decays weights apart from the gradient (8), adam adds the
   * decay to the gradient (8), prodigy finds the learning rate itself (16), came keeps second moments of rows and
   * columns only (4), adamw8bit is AdamW with moments of one byte (2). Default `adamw`.
   */
  readonly optimizer: "adamw" | "adam" | "prodigy" | "came" | "adamw8bit";
  /** Decay of the mean of the gradient. Default `0.9`. */
  readonly beta1: number;
  /** Decay of the mean of the squared gradient. Default `0.95`. */
  readonly beta2: number;
  /** Decay of Prodigy's distance estimate and of CAME's confidence. Default `0.98`. */
  readonly beta3: number;
  /** Added to the root of the second moment; CAME has its own. Default `1e-8`. */
  readonly epsilon: number;
  /** Weight decay per step, times the learning rate. Default `0.0001`. */
  readonly weight_decay: number;
  /** Global L2 norm to which gradients are clipped. Default `1`. */
  readonly max_grad_norm: number;
  /** Shape of the learning rate over the run. Default `constant_with_warmup`. */
  readonly lr_scheduler:
    | "constant"
    | "constant_with_warmup"
    | "linear"
    | "cosine"
    | "cosine_with_restarts"
    | "polynomial";
  /** Optimizer steps in which the learning rate rises from 0. Default `100`. */
  readonly lr_warmup_steps: number;
  /** Restarts of cosine_with_restarts. Default `1`. */
  readonly lr_num_cycles: number;
  /** Exponent of polynomial. Default `1`. */
  readonly lr_power: number;
  /** Decay of the moving average of the trained weights, which is saved beside them; 0 is off. Default `0`. */
  readonly ema_decay: number;
  /**
   * Instead of training, raise the learning rate from `lr_range_min` to `lr_range_max` in `train_steps` steps (100
   * when unset) on the same clips and noise, and suggest a learning rate; nothing is saved. Default `false`.
   */
  readonly lr_range_test: boolean;
  /** First learning rate of `lr_range_test`. Default `1e-7`. */
  readonly lr_range_min: number;
  /** Last learning rate of `lr_range_test`. Default `0.1`. */
  readonly lr_range_max: number;
  /**
   * How timesteps are drawn: all equally often, or as the logistic function of a normal number, most often in the
   * middle. Default `uniform`.
   */
  readonly timestep_sampling: "uniform" | "logit_normal";
  /**
   * Mean of the normal number of `logit_normal`; below 0 clean timesteps are drawn more often, above 0 noisy ones.
   * Default `0`.
   */
  readonly timestep_logit_mean: number;
  /** Standard deviation of the normal number of `logit_normal`. Default `1`. */
  readonly timestep_logit_std: number;
  /** First timestep that is drawn; early ones are nearly clean and teach detail. Default `0`. */
  readonly timestep_min: number;
  /**
   * Last timestep that is drawn; late ones are nearly noise and teach composition and motion. The last of the
   * schedule when unset.
   */
  readonly timestep_max?: number | undefined;
  /**
   * Weigh the loss by min(SNR, gamma) / (SNR + 1), which evens out clean and noisy timesteps; 5 is usual. Off when
   * unset.
   */
  readonly snr_gamma?: number | undefined;
  /**
   * Standard deviation of a number per channel that is added to all its noise, for darker and brighter videos; 0.05
   * to 0.1 is usual. Default `0`.
   */
  readonly noise_offset: number;
  /** Rank of the adapters. Default `128`. */
  readonly rank: number;
  /** Adapters are scaled by `lora_alpha` / `rank`. Equal to `rank` when unset. */
  readonly lora_alpha: number;
  /**
   * Linear layers that get an adapter: ends of module names, `*` matches any text. Default `[to_q, to_k, to_v,
   * to_out.0]`.
   */
  readonly target_modules: readonly string[];
  /**
   * Ranks of single layers as LAYER=RANK, with names as in `target_modules`; the first that names a layer counts.
   * Default `[]`.
   */
  readonly rank_pattern: readonly string[];
  /** Alphas of single layers as LAYER=ALPHA. Where `lora_alpha` is unset, a layer's alpha is its rank. Default `[]`. */
  readonly alpha_pattern: readonly string[];
  /**
   * Probability with which an element of an adapter's input is dropped while training, against learning clips by
   * heart. Default `0`.
   */
  readonly lora_dropout: number;
  /** Scale adapters by `lora_alpha` / sqrt(`rank`), so that high ranks learn as fast as low ones. Default `false`. */
  readonly use_rslora: boolean;
  /**
   * Train how long the rows of the adapted weights are apart from where they point (DoRA); slower, and closer to
   * training all weights at low ranks. Default `false`.
   */
  readonly use_dora: boolean;
  /** LoRA file or folder to start from, of any format that can be read; ranks may be lower than `rank`. */
  readonly init_lora?: string | undefined;
  /**
   * Factor of the condition latent: the VAE's scaling factor as the original trainer, or what the sampling pipeline
   * of the model uses (differs for 1.5). Default `original`.
   */
  readonly image_scale: "original" | "pipeline";
  /**
   * Whether the strength of the noise put on the condition image is drawn for every clip or once per batch. Default
   * `per_sample`.
   */
  readonly image_noise: "per_sample" | "per_batch";
  /** Probability with which the condition of a clip is replaced by zeros. Default `0`. */
  readonly condition_dropout: number;
  /** Keep only the input of each transformer block and compute the block again in the backward pass. Default `true`. */
  readonly gradient_checkpointing: boolean;
  /**
   * Results inside a block that are kept although `gradient_checkpointing` is on, so that they are not computed
   * again. Default `[]`.
   */
  readonly keep: readonly "attention"[];
  /**
   * Where the transformer's weights live: on the GPU as they are, there quantised to 8 or 4 bits, or in host memory
   * and uploaded block by block. Default `resident`.
   */
  readonly base_weights: "resident" | "int8" | "nf4" | "streamed";
  /** Keep block inputs in host memory between the forward and the backward pass. Default `false`. */
  readonly offload_activations: boolean;
  /**
   * How sft stores the weights that train: `f32` masters beside working weights, or in bf16 alone, 4 bytes a
   * parameter less, rounding errors either carried over to the next update (`bf16_kahan`, 2 bytes of it back) or
   * drawn at random so that they cancel in the mean (`bf16_stochastic`). Default `f32`.
   */
  readonly master_weights: "f32" | "bf16_kahan" | "bf16_stochastic";
  /** Keep float32 master weights, their gradients and optimizer moments in host memory. Default `false`. */
  readonly offload_optimizer: boolean;
  /**
   * GPU memory the run may use, GiB; a run that needs more is refused before it starts. All that the adapter has
   * when unset.
   */
  readonly gpu_memory?: number | undefined;
  /** Encode and decode the clips of a batch one at a time. Default `true`. */
  readonly enable_slicing: boolean;
  /**
   * Encode and decode large frames in overlapping tiles; changes latents slightly, as in the original trainer.
   * Default `true`.
   */
  readonly enable_tiling: boolean;
  /** GPUs of this machine to train on, one process each; on the command line also `all`. Default `1`. */
  readonly gpus: number;
  /** Sharding over GPUs: 0 nothing, 2 gradients and optimizer state, 3 parameters too. Default `0`. */
  readonly zero_stage: 0 | 2 | 3;
  /** Order of the sum over GPUs: ring is fast; canonical gives the same bits for any number of GPUs. Default `ring`. */
  readonly reduction: "ring" | "canonical";
  /**
   * Seconds that ranks wait for one that makes no progress, or ten times the last step if that is longer; the first
   * step has at least 900. Default `60`.
   */
  readonly rank_timeout: number;
  /** Sample videos every `validation_steps` steps and at the end. Default `false`. */
  readonly do_validation: boolean;
  /** Optimizer steps between validations, a multiple of `checkpointing_steps`. */
  readonly validation_steps?: number | undefined;
  /** Folder of the validation lists. */
  readonly validation_dir?: string | undefined;
  /** List of prompts, one per line, below `validation_dir`. */
  readonly validation_prompts?: string | undefined;
  /** List of condition images for image to video, below `validation_dir`. */
  readonly validation_images?: string | undefined;
  /** Frames per second written into the sampled videos. Default `15`. */
  readonly gen_fps: number;
  /** Sampler of validation videos. Default `dpm`. */
  readonly sampler: "dpm" | "ddim";
  /** Sampler steps per video. Default `50`. */
  readonly num_inference_steps: number;
  /** Strength of classifier-free guidance; 1 is off. Default `6`. */
  readonly guidance_scale: number;
  /** Raise the guidance along a cosine while sampling. Default `false`. */
  readonly use_dynamic_cfg: boolean;
  /**
   * Folder of clips, laid out as `data_root`, whose loss at fixed noise and timesteps is measured and never trained
   * on.
   */
  readonly heldout_root?: string | undefined;
  /** Optimizer steps between two measurements on `heldout_root`. Default `100`. */
  readonly heldout_steps: number;
  /** Keep the model with the lowest loss on `heldout_root` in the folder `best` of `output_dir`. Default `false`. */
  readonly keep_best: boolean;
  /** End the run after this many measurements on `heldout_root` in a row without a lower loss. Off when unset. */
  readonly early_stop?: number | undefined;
}
