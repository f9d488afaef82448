/** Where a run writes, what it reports, and how it continues. */
import { z } from "zod";

/** Run and output. */
export interface RunConfig {
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
  /** WebGPU implementation: Deno's own, or Dawn through the npm package `webgpu`. Default `deno`. */
  readonly engine: "deno" | "dawn";
  /** Measure every kernel of one step and write the table to `output_dir`. Default `false`. */
  readonly profile: boolean;
  /** Stop before weights are loaded: check the config, print it and the forecast. Default `false`. */
  readonly dry_run: boolean;
}

export const runFields = {
  output_dir: z.string().min(1).optional(),
  report_to: z.enum(["none", "tensorboard", "all"]).default("none"),
  log_every: z.int().min(1).default(1),
  seed: z.int().min(0).max(0xffffffff).default(42),
  resume_from_checkpoint: z.string().min(1).optional(),
  checkpointing_steps: z.int().min(1).default(200),
  checkpointing_limit: z.int().min(1).default(10),
  engine: z.enum(["deno", "dawn"]).default("deno"),
  profile: z.boolean().default(false),
  dry_run: z.boolean().default(false),
};
