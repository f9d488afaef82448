/** Where a run writes, what it reports, and how it continues. */
import { z } from "zod";

/** Run and output. */
export const run = z.strictObject({
  output_dir: z.string().min(1).optional().describe(
    "Folder for checkpoints, metrics and samples. When unset, the folder of the checkpoint that is continued, " +
      "or `runs/<date>_<time>`.",
  ),
  report_to: z.enum(["none", "tensorboard", "all"]).default("none").describe(
    "Besides metrics.jsonl, which is always written: TensorBoard event files (all means the same).",
  ),
  log_every: z.int().min(1).default(1).describe("Optimizer steps between two progress lines and metric records."),
  seed: z.int().min(0).max(0xffffffff).default(42).describe(
    "Seed of sample order, noise, timesteps and initial adapters.",
  ),
  resume_from_checkpoint: z.string().min(1).optional().describe(
    "Checkpoint folder to continue from, or `latest` for the newest one in `output_dir`.",
  ),
  checkpointing_steps: z.int().min(1).default(200).describe(
    "Optimizer steps between checkpoints; one is always written at the end.",
  ),
  checkpointing_limit: z.int().min(1).default(10).describe("Newest checkpoints that are kept."),
  push_to_hub: z.string().min(1).optional().describe(
    "Repository of a hub, `owner/name`, to which the command line uploads the result when a run has finished: the best " +
      "model where `keep_best` keeps one, else the last. It is made private when it does not exist. The access token is " +
      "read from the environment variable HF_TOKEN. Off when unset.",
  ),
  engine: z.enum(["auto", "deno", "dawn"]).default("auto").describe(
    "WebGPU implementation: Deno's own, Dawn through the npm package `webgpu`, or `auto`: Dawn where it is installed and " +
      "brings matrix units, else Deno's own.",
  ),
  tune: z.enum(["auto", "always", "never"]).default("auto").describe(
    "Whether to measure the variants of a step's products, attention and row operations once on a card and use the " +
      "fastest: auto on real GPUs alone, not on software drivers. A run that continues keeps the kernels of its checkpoint.",
  ),
  profile: z.int().min(0).max(1000).default(0).describe(
    "Steps after the first one that are watched: what every kernel family takes and reaches of this card's measured peaks, " +
      "what the GPU waits for and what would help is printed, and a trace for ui.perfetto.dev written to `output_dir`. 0 is off; results are the same bits.",
  ),
  dry_run: z.boolean().default(false).describe(
    "Stop before weights are loaded: check the config, print it and the forecast.",
  ),
}).meta({ title: "Run and output" });
