import assert from "node:assert/strict";
import { parseConfig } from "../../lib/train/config.ts";
import { forecastScaling } from "../../lib/train/scaling.ts";

const links = { transfer: 10e9, memory: 20e9, network: 1e9 };

Deno.test("a ring of N ranks sends 2 (N - 1) / N of the gradients, and the network bounds several hosts", () => {
  // LoRA of rank 128 on 5b: 132,120,576 values, whatever padding windows need is nothing at these widths.
  const config = parseConfig("preset: 5b-lora\ngpus: 8");
  const payload = 4 * 132_120_576;
  const one = forecastScaling(config, 1, links);
  assert.equal(one.ranks, 8);
  assert.equal(one.bytesPerRank, 2 * 7 / 8 * payload);
  assert.ok(Math.abs(one.seconds - (2 * payload / 10e9 + 8 * one.bytesPerRank / 20e9)) < 1e-9);
  const four = forecastScaling(config, 4, links);
  assert.equal(four.bytesPerHost, 2 * 31 / 32 * payload);
  assert.ok(Math.abs(four.seconds - (2 * payload / 10e9 + four.bytesPerHost / 1e9)) < 1e-9);
});

Deno.test("sharded updates send gradients once in f32 and weights once in their working type; one rank sends nothing", () => {
  const config = parseConfig("preset: 5b-sft-zero2");
  const { bytesPerRank } = forecastScaling(config, 1, links);
  // 5,570,283,072 parameters, 4 + 2 bytes each; windows are padded to 128 elements.
  assert.ok(Math.abs(bytesPerRank / (7 / 8 * 6 * 5_570_283_072) - 1) < 1e-4);
  assert.equal(forecastScaling(parseConfig("preset: 5b-lora"), 1, links).seconds, 0);
});
