/** Length of the run, batch, precision, optimizer and learning rate. */
import { z } from "zod";

/** Learning-rate schedules. */
export type LearningRateSchedule =
  | "constant"
  | "constant_with_warmup"
  | "linear"
  | "cosine"
  | "cosine_with_restarts"
  | "polynomial";

/** Optimization. */
export interface OptimizationConfig {
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
  /** Peak learning rate. Default `0.00002`. */
  readonly learning_rate: number;
  /** Optimizer; adamw8bit is AdamW with 8-bit moments. Default `adamw`. */
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
  readonly lr_scheduler: LearningRateSchedule;
  /** Optimizer steps in which the learning rate rises from 0. Default `100`. */
  readonly lr_warmup_steps: number;
  /** Restarts of cosine_with_restarts. Default `1`. */
  readonly lr_num_cycles: number;
  /** Exponent of polynomial. Default `1`. */
  readonly lr_power: number;
  /** Decay of the moving average of the trained weights, which is saved beside them; 0 is off. Default `0`. */
  readonly ema_decay: number;
}

const decay = z.number().min(0).lt(1);

export const optimizationFields = {
  train_epochs: z.int().min(1).default(10),
  train_steps: z.int().min(1).optional(),
  batch_size: z.int().min(1).default(1),
  gradient_accumulation_steps: z.int().min(1).default(1),
  mixed_precision: z.enum(["no", "fp16", "bf16"]).default("no"),
  learning_rate: z.number().min(0).default(2e-5),
  optimizer: z.enum(["adamw", "adam", "prodigy", "came", "adamw8bit"]).default("adamw"),
  beta1: decay.default(0.9),
  beta2: decay.default(0.95),
  beta3: decay.default(0.98),
  epsilon: z.number().positive().default(1e-8),
  weight_decay: z.number().min(0).default(1e-4),
  max_grad_norm: z.number().min(0).default(1),
  lr_scheduler: z.enum(["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"])
    .default("constant_with_warmup"),
  lr_warmup_steps: z.int().min(0).default(100),
  lr_num_cycles: z.int().min(1).default(1),
  lr_power: z.number().positive().default(1),
  ema_decay: decay.default(0),
};
