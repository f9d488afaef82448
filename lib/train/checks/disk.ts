/** Whether the disks hold what a run writes: encoded clips and checkpoints. */
import { bytesOf } from "../../../kernels/core/kernel.ts";
import type { TrainConfig } from "../../config/config.ts";
import { clipShapes } from "../../config/derive.ts";
import { UserError } from "../../errors.ts";
import { fileSystemOf, freeBytes } from "../../io/file_operations.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { latentSize } from "../../models/transformer/config.ts";
import { declareOptimizer } from "../../optim/update.ts";
import { elements } from "../../plan/tensor.ts";
import type { RunDescription } from "../../step/run_description.ts";
import type { PreparedData } from "../data/prepare_data.ts";

/** Bytes that are to be written somewhere. */
interface DiskNeed {
  /** What they are, as "a checkpoint". */
  readonly what: string;
  readonly path: string;
  readonly bytes: number;
}

/** Bytes of the entries that a cache lacks; their headers are small change. */
function cacheBytes(config: TrainConfig, { transformer, vae }: ModelFolder, { plan, samples }: PreparedData): number {
  const buckets = clipShapes(config).map((resolution) => {
    const { frames, height, width } = latentSize(transformer, resolution);
    const picture = 2 * vae.latent_channels * height * width;
    return {
      latent: picture * frames,
      image: picture,
      prompt: transformer.max_text_seq_length * transformer.text_embed_dim,
    };
  });
  const bucketOf = new Map(
    samples.flatMap(({ bucket, latent, variants }) => [latent, ...variants].map((request) => [request, bucket])),
  );
  return [...plan.new, ...plan.changed].reduce(
    (sum, { request }) => sum + 4 * buckets[bucketOf.get(request) ?? 0]![request.kind],
    0,
  );
}

/** Bytes of the tensors of one checkpoint: the model for other programs, masters and optimizer states. */
export function checkpointBytes({ step, trainables, shard, updated }: RunDescription): number {
  const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);
  const { states, averages } = declareOptimizer(step.optimizer, updated);
  const model = sum(
    [...trainables.byName.values()].map(({ trueShape, master, working }) =>
      elements(trueShape) * bytesOf(shard === undefined ? master.dtype : working.dtype)
    ),
  );
  const state = shard === undefined
    ? sum([...trainables.buckets.map(({ values }) => values.bytes), ...[...states.values()].map(({ bytes }) => bytes)])
    // Masters and two moments, gathered from all ranks.
    : 3 * 4 * sum(trainables.buckets.map(({ gradients }) => gradients.size));
  return model * (averages.length > 0 ? 2 : 1) + state;
}

/**
 * Makes sure that the disks hold the entries that the caches lack and one checkpoint.
 *
 * @returns a warning when the checkpoints that are kept at once do not fit: some can be removed until then.
 * @throws {UserError} with the bytes wanted and free.
 */
export function checkDisks(
  config: TrainConfig,
  model: ModelFolder,
  run: RunDescription,
  datasets: readonly PreparedData[],
): string[] {
  const { output_dir, lr_range_test, checkpointing_limit, checkpointing_steps } = config;
  const checkpoint = lr_range_test ? 0 : checkpointBytes(run);
  const needs: DiskNeed[] = [
    ...datasets.map((data) => ({
      what: "encoded clips",
      path: data.cache.folder,
      bytes: cacheBytes(config, model, data),
    })),
    { what: "a checkpoint", path: output_dir, bytes: checkpoint },
  ];
  for (const shared of Map.groupBy(needs, ({ path }) => fileSystemOf(path)).values()) requireSpace(shared);
  const batches = [...Map.groupBy(datasets[0]!.samples, ({ bucket }) => bucket).values()]
    .reduce((sum, { length }) => sum + Math.ceil(length / config.batch_size), 0);
  const steps = config.train_steps ??
    config.train_epochs * Math.ceil(batches / config.gradient_accumulation_steps);
  // The one that is being written stands beside those that are kept.
  const kept = Math.min(Math.ceil(steps / checkpointing_steps), checkpointing_limit + 1);
  const free = freeBytes(output_dir);
  if (kept * checkpoint <= free) return [];
  return [
    `${kept} checkpoints are kept at once and take ${kept * checkpoint} bytes, ${free} bytes are free at ` +
    `"${output_dir}": lower checkpointing_limit, or raise checkpointing_steps`,
  ];
}

/** Makes sure that one file system has room for all of these. */
function requireSpace(needs: readonly DiskNeed[]): void {
  const wanted = needs.filter(({ bytes }) => bytes > 0);
  const bytes = wanted.reduce((sum, need) => sum + need.bytes, 0);
  const free = freeBytes(needs[0]!.path);
  if (bytes <= free) return;
  const list = wanted.map((need) => `${need.bytes} for ${need.what} in "${need.path}"`).join(", ");
  throw new UserError(
    `Not enough disk space: ${bytes} bytes are wanted (${list}), ${free} bytes are free there`,
    "free space, or choose folders on other disks with cache_dir and output_dir",
  );
}
