/** Length of the run, batch, precision, optimizer and learning rate. */
import { z } from "zod";
import { learningRateSchedules } from "../../optim/learning_rate.ts";
import { optimizerNames, optimizers } from "../../optim/optimizers.ts";

const optimizerText = optimizerNames.map((name) =>
  `${name} ${optimizers[name].summary} (${optimizers[name].stateBytes})`
).join(", ");
const decay = z.number().min(0).lt(1);

/** Optimization. */
export const optimization = z.strictObject({
  train_epochs: z.int().min(1).default(10).describe("Passes over the dataset."),
  train_steps: z.int().min(1).optional().describe("Optimizer steps in all; overrides `train_epochs`."),
  batch_size: z.int().min(1).default(1).describe("Clips per GPU and micro-step."),
  gradient_accumulation_steps: z.int().min(1).default(1).describe("Micro-steps per optimizer step."),
  mixed_precision: z.enum(["no", "fp16", "bf16"]).default("no").describe(
    "Storage type of frozen weights and activations; sums are always float32.",
  ),
  matmul_precision: z.enum(["mixed", "exact"]).default("mixed").describe(
    "How cards multiply when `mixed_precision` is fp16 or bf16: `mixed` on matrix units, operands rounded to f16 under a " +
      "power of two for each row (a product is at most 2^-10 off, as the tests bound it), or `exact` in float32. Where an " +
      "engine shows no matrix units, `mixed` takes packed f16 of the same bound if tuning finds it faster.",
  ),
  learning_rate: z.number().min(0).default(2e-5).describe("Peak learning rate."),
  optimizer: z.enum(optimizerNames).default("adamw").describe(
    `Optimizer, with bytes of state a parameter: ${optimizerText}.`,
  ),
  beta1: decay.default(0.9).describe("Decay of the mean of the gradient."),
  beta2: decay.default(0.95).describe("Decay of the mean of the squared gradient."),
  beta3: decay.default(0.98).describe("Decay of Prodigy's distance estimate and of CAME's confidence."),
  epsilon: z.number().positive().default(1e-8).describe("Added to the root of the second moment; CAME has its own."),
  weight_decay: z.number().min(0).default(1e-4).describe("Weight decay per step, times the learning rate."),
  max_grad_norm: z.number().min(0).default(1).describe("Global L2 norm to which gradients are clipped."),
  lr_scheduler: z.enum(learningRateSchedules).default("constant_with_warmup").describe(
    "Shape of the learning rate over the run.",
  ),
  lr_warmup_steps: z.int().min(0).default(100).describe("Optimizer steps in which the learning rate rises from 0."),
  lr_num_cycles: z.int().min(1).default(1).describe("Restarts of cosine_with_restarts."),
  lr_power: z.number().positive().default(1).describe("Exponent of polynomial."),
  ema_decay: decay.default(0).describe(
    "Decay of the moving average of the trained weights, which is saved beside them; 0 is off.",
  ),
  lr_range_test: z.boolean().default(false).describe(
    "Instead of training, raise the learning rate from `lr_range_min` to `lr_range_max` in `train_steps` steps (100 when " +
      "unset) on the same clips and noise, and suggest a learning rate; nothing is saved.",
  ),
  lr_range_min: z.number().positive().default(1e-7).describe("First learning rate of `lr_range_test`."),
  lr_range_max: z.number().positive().default(0.1).describe("Last learning rate of `lr_range_test`."),
}).meta({ title: "Optimization" });
