/** What trades memory against time, and how work is spread over GPUs. */
import { z } from "zod";

/** Memory. */
export interface MemoryConfig {
  /** Keep only the input of each transformer block and compute the block again in the backward pass. Default `true`. */
  readonly gradient_checkpointing: boolean;
  /**
   * Results inside a block that are kept although `gradient_checkpointing` is on, so that they are not computed again.
   * Default `[]`.
   */
  readonly keep: readonly "attention"[];
  /**
   * Where the transformer's weights live: on the GPU as they are, there quantised to 8 or 4 bits, or in host memory and
   * uploaded block by block. Default `resident`.
   */
  readonly base_weights: "resident" | "int8" | "nf4" | "streamed";
  /** Keep block inputs in host memory between the forward and the backward pass. Default `false`. */
  readonly offload_activations: boolean;
  /**
   * How sft stores the weights that train: `f32` masters beside working weights, or in bf16 alone, 4 bytes a parameter less,
   * rounding errors either carried over to the next update (`bf16_kahan`, 2 bytes of it back) or drawn at random so that they
   * cancel in the mean (`bf16_stochastic`). Default `f32`.
   */
  readonly master_weights: "f32" | "bf16_kahan" | "bf16_stochastic";
  /** Keep float32 master weights, their gradients and optimizer moments in host memory. Default `false`. */
  readonly offload_optimizer: boolean;
  /**
   * GPU memory the run may use, GiB; a run that needs more is refused before it starts. All that the adapter has when
   * unset.
   */
  readonly gpu_memory?: number | undefined;
  /** Encode and decode the clips of a batch one at a time. Default `true`. */
  readonly enable_slicing: boolean;
  /**
   * Encode and decode large frames in overlapping tiles; changes latents slightly, as in the original trainer. Default
   * `true`.
   */
  readonly enable_tiling: boolean;
}

/** Several GPUs. */
export interface ParallelConfig {
  /** GPUs of this machine to train on, one process each; on the command line also `all`. Default `1`. */
  readonly gpus: number;
  /** Sharding over GPUs: 0 nothing, 2 gradients and optimizer state, 3 parameters too. Default `0`. */
  readonly zero_stage: 0 | 2 | 3;
  /** Order of the sum over GPUs: ring is fast; canonical gives the same bits for any number of GPUs. Default `ring`. */
  readonly reduction: "ring" | "canonical";
  /** Seconds that ranks wait for one that makes no progress; the first step has at least 900. Default `60`. */
  readonly rank_timeout: number;
}

export const memoryFields = {
  gradient_checkpointing: z.boolean().default(true),
  keep: z.array(z.enum(["attention"])).default([]),
  base_weights: z.enum(["resident", "int8", "nf4", "streamed"]).default("resident"),
  offload_activations: z.boolean().default(false),
  master_weights: z.enum(["f32", "bf16_kahan", "bf16_stochastic"]).default("f32"),
  offload_optimizer: z.boolean().default(false),
  gpu_memory: z.number().positive().optional(),
  enable_slicing: z.boolean().default(true),
  enable_tiling: z.boolean().default(true),
};

export const parallelFields = {
  gpus: z.int().min(1).max(1024).default(1),
  zero_stage: z.literal([0, 2, 3]).default(0),
  reduction: z.enum(["ring", "canonical"]).default("ring"),
  rank_timeout: z.number().positive().default(60),
};
