import assert from "node:assert/strict";
import { join } from "node:path";
import { rankNodes } from "../../lib/comm/exchange/tree.ts";
import { parseConfig, type TrainConfig } from "../../lib/config/config.ts";
import { readGroups } from "../../lib/step/exchange.ts";
import { folderShapes } from "../../lib/forecast/folder_shapes.ts";
import { LinkProbe } from "../../lib/forecast/link_probe.ts";
import { forecastScaling, READ_SECONDS } from "../../lib/forecast/scaling.ts";
import { trainAsRank } from "../../lib/train/trainer.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { withRanks } from "../comm/exchange/groups.ts";
import { configOf, inScratch } from "../train/runs.ts";

const links = { transfer: 10e9, memory: 20e9, staged: 0.5e9, network: 1e9 };

/** Seconds without what is left when every link is infinitely fast. */
function linkSeconds(config: TrainConfig, hosts: number): number {
  const free = { transfer: Infinity, memory: Infinity, staged: Infinity, network: Infinity };
  return forecastScaling(config, hosts, links).seconds - forecastScaling(config, hosts, free).seconds;
}

function assertClose(found: number, expected: number): void {
  assert.ok(Math.abs(found - expected) <= 1e-9 * expected, `${found}, expected ${expected}`);
}

Deno.test("a ring of N ranks sends 2 (N - 1) / N of the gradients, and the network bounds several hosts", () => {
  // LoRA of rank 128 on 5b: 132,120,576 values, whatever padding windows need is nothing at these widths.
  const config = parseConfig("preset: 5b-lora\ngpus: 8");
  const payload = 4 * 132_120_576;
  const one = forecastScaling(config, 1, links);
  assert.equal(one.ranks, 8);
  assert.equal(one.bytesPerRank, 2 * 7 / 8 * payload);
  assert.equal(one.transferBytes, 2 * payload);
  assertClose(linkSeconds(config, 1), 2 * payload / 10e9 + one.bytesPerRank / 20e9);
  const four = forecastScaling(config, 4, links);
  assert.equal(four.bytesPerHost, 2 * 31 / 32 * payload);
  // Between hosts no array is in place, and copies at 0.5 GB/s take longer than the network at 1 GB/s.
  assertClose(linkSeconds(config, 4), 2 * payload / 10e9 + four.bytesPerRank / 0.5e9);
  const slow = { ...links, network: 1e8 };
  const slower = forecastScaling(config, 4, slow).seconds - forecastScaling(config, 4, links).seconds;
  assertClose(slower, four.bytesPerHost / 1e8 - four.bytesPerRank / 0.5e9);
});

Deno.test("sharded updates send gradients once in f32 and weights once in their working type; one rank sends nothing", () => {
  const config = parseConfig("preset: 5b-sft-zero2");
  const { bytesPerRank, transferBytes } = forecastScaling(config, 1, links);
  // 5,570,283,072 parameters, 4 + 2 bytes each; windows are padded to 128 elements.
  assert.ok(Math.abs(bytesPerRank / (7 / 8 * 6 * 5_570_283_072) - 1) < 1e-4);
  // The step itself brings gradients to the host; the exchange uploads the weights of all shards.
  assert.ok(Math.abs(transferBytes / (2 * 5_570_283_072) - 1) < 1e-4);
  assertClose(linkSeconds(config, 1), transferBytes / 10e9 + bytesPerRank / 0.5e9);
  assert.equal(forecastScaling(parseConfig("preset: 5b-sft-zero3"), 1, links).transferBytes, 0);
  assert.equal(forecastScaling(parseConfig("preset: 5b-lora"), 1, links).seconds, 0);
  const spread = forecastScaling(parseConfig("preset: 5b-sft-zero2\ngpus: 1"), 8, links);
  assert.ok(
    Math.abs(spread.bytesPerRank / bytesPerRank - 1) < 1e-4,
    "eight hosts with a GPU each shard as eight GPUs do",
  );
});

Deno.test("gradients are read in few waits of bounded size, in order", () => {
  const tensors = [50, 60, 18, 1, 300, 10].map((mebibytes, i) => new Tensor(`t${i}`, [mebibytes * 2 ** 18], "f32"));
  assert.deepEqual(readGroups(tensors).map((group) => group.map(({ name }) => name)), [
    ["t0", "t1", "t2"],
    ["t3"],
    ["t4"],
    ["t5"],
  ]);
  assert.deepEqual(readGroups([]), []);
  // 528 MB of LoRA in 42 blocks of 12.6 MB, ten to a wait.
  const free = { transfer: Infinity, memory: Infinity, staged: Infinity, network: Infinity };
  const { seconds } = forecastScaling(parseConfig("preset: 5b-lora\ngpus: 2"), 1, free);
  assert.ok(seconds >= 5 * READ_SECONDS && seconds < 5 * READ_SECONDS + 0.01, `${seconds}`);
});

/** Bytes that all ranks of a run move in its second step. */
async function movedInStep(config: TrainConfig): Promise<number> {
  const moved = await withRanks(config.gpus, async (communicator) => {
    const after: number[] = [];
    for await (const event of trainAsRank(config, communicator)) {
      if (event.type === "step") after.push(communicator.moved);
    }
    return after[1]! - after[0]!;
  });
  return moved.reduce((sum, bytes) => sum + bytes, 0);
}

Deno.test("the ranks of a run move the bytes that are forecast", () =>
  inScratch(async (folder) => {
    const sft = { training_type: "sft", mixed_precision: "bf16" };
    const cases: readonly (readonly [string, number, Record<string, unknown>])[] = [
      ["adapters", 2, {}],
      ["adapters", 4, {}],
      ["zero 2", 2, { ...sft, zero_stage: 2 }],
      ["zero 2", 4, { ...sft, zero_stage: 2 }],
      ["zero 3", 2, { ...sft, zero_stage: 3, base_weights: "streamed" }],
      ["zero 3", 4, { ...sft, zero_stage: 3, base_weights: "streamed" }],
    ];
    for (const [name, gpus, extra] of cases) {
      const config = configOf(folder, { ...extra, gpus, train_steps: 2, output_dir: join(folder, `${name} ${gpus}`) });
      const measured = await movedInStep(config);
      const forecast = gpus * forecastScaling(config, 1, links, folderShapes(config)).bytesPerRank;
      // Losses and norms, in parts of 128 bytes, are not forecast.
      assert.ok(measured >= forecast && measured - forecast <= 1024 * gpus, `${name}: ${measured}, not ${forecast}`);
    }
  }));

Deno.test("a canonical sum of three micro-batches per rank sends two nodes of each", async () => {
  const config = parseConfig("preset: 5b-lora\ngpus: 2\nreduction: canonical\ngradient_accumulation_steps: 3");
  const length = 1024;
  const moved = await withRanks(2, async (communicator) => {
    const nodes = rankNodes(6, communicator.rank, 2).map((node) => ({ ...node, data: new Float32Array(length) }));
    await communicator.reduceTree(nodes, 6, new Float32Array(length));
    return communicator.moved;
  });
  // Micro-batches 0 to 3 and 4 to 5 are subtrees, so {0, 1}, {2}, {3} and {4, 5} travel, and the sum once.
  assert.deepEqual(moved, [1.5 * 4 * length, 1.5 * 4 * length]);
  const { bytesPerRank, transferBytes } = forecastScaling(config, 1, links);
  assert.equal(bytesPerRank, 1.5 * 4 * 132_120_576);
  assert.equal(transferBytes, (3 + 1) * 4 * 132_120_576);
});

Deno.test("a probe gives rates for the links that a group has", async () => {
  const rates = await withRanks(2, async (communicator) => {
    const probe = new LinkProbe(communicator, undefined);
    await probe.sample();
    return probe.rates();
  });
  for (const { memory, staged, transfer } of rates) {
    for (const rate of [memory, staged]) assert.ok(rate! > 0 && Number.isFinite(rate));
    assert.equal(transfer, undefined);
  }
  assert.deepEqual(rates[0], rates[1]);
});
