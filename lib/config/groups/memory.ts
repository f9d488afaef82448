/** What trades memory against time, and how work is spread over GPUs. */
import { z } from "zod";

/** Memory. */
export const memory = z.strictObject({
  gradient_checkpointing: z.boolean().default(true).describe(
    "Keep only the input of each transformer block and compute the block again in the backward pass.",
  ),
  keep: z.array(z.enum(["attention"])).default([]).describe(
    "Results inside a block that are kept although `gradient_checkpointing` is on, so that they are not " +
      "computed again.",
  ),
  base_weights: z.enum(["resident", "int8", "nf4", "streamed"]).default("resident").describe(
    "Where the transformer's weights live: on the GPU as they are, there quantised to 8 or 4 bits, or in host " +
      "memory and uploaded block by block.",
  ),
  offload_activations: z.boolean().default(false).describe(
    "Keep block inputs in host memory between the forward and the backward pass.",
  ),
  master_weights: z.enum(["f32", "bf16_kahan", "bf16_stochastic"]).default("f32").describe(
    "How sft stores the weights that train: `f32` masters beside working weights, or in bf16 alone, 4 bytes a " +
      "parameter less, rounding errors either carried over to the next update (`bf16_kahan`, 2 bytes of it back) " +
      "or drawn at random so that they cancel in the mean (`bf16_stochastic`).",
  ),
  offload_optimizer: z.boolean().default(false).describe(
    "Keep float32 master weights, their gradients and optimizer moments in host memory.",
  ),
  gpu_memory: z.number().positive().optional().describe(
    "GPU memory the run may use, GiB; a run that needs more is refused before it starts. All that the adapter " +
      "has when unset.",
  ),
  enable_slicing: z.boolean().default(true).describe("Encode and decode the clips of a batch one at a time."),
  enable_tiling: z.boolean().default(true).describe(
    "Encode and decode large frames in overlapping tiles; changes latents slightly, as in the original trainer.",
  ),
}).meta({ title: "Memory" });

/** Several GPUs. */
export const parallel = z.strictObject({
  gpus: z.int().min(1).max(1024).default(1).describe(
    "GPUs of this machine to train on, one process each; on the command line also `all`.",
  ),
  zero_stage: z.literal([0, 2, 3]).default(0).describe(
    "Sharding over GPUs: 0 nothing, 2 gradients and optimizer state, 3 parameters too.",
  ),
  reduction: z.enum(["ring", "canonical"]).default("ring").describe(
    "Order of the sum over GPUs: ring is fast; canonical gives the same bits for any number of GPUs.",
  ),
  rank_timeout: z.number().positive().default(60).describe(
    "Seconds that ranks wait for one that makes no progress, or ten times the last step if that is longer; the first step has at least 900.",
  ),
}).meta({ title: "Several GPUs" });
