import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Session } from "../../../lib/gpu/session.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { openTextEncoder } from "../../../lib/models/t5/encoder.ts";
import {
  parseT5Config,
  relativeBias,
  relativeBucket,
  T5_XXL,
  t5ParameterShapes,
} from "../../../lib/models/t5/config.ts";
import { recordT5 } from "../../../lib/models/t5/graph.ts";
import { cost } from "../../../lib/plan/recording.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { caseName, casesOf, pipelineFor, pipelineOf, referencePath } from "../../reference.ts";
import { Golden } from "../golden.ts";
import { goldenPrompts, runTextEncoder } from "./case.ts";

/** f32 against float64; the library's own f32 differs by up to 1.4e-6. */
const TOLERANCE = 1e-5;

function close(what: string, actual: Float32Array, expected: Float32Array, tolerance = TOLERANCE): void {
  const error = relativeL2(actual, expected);
  assert.ok(error <= tolerance, `${what}: relative error ${error} above ${tolerance}`);
}

for (const stored of casesOf("text", "embeddings")) {
  Deno.test(`the text encoder matches transformers on ${caseName(stored)}`, async () => {
    const distances = await runTextEncoder(stored);
    const blocks = stored.tensors.filter((name) => name.startsWith("block."));
    assert.ok(blocks.length > 0);
    assert.equal(distances.length, (stored.config.prompts as string[]).length + blocks.length);
    for (const { what, error } of distances) assert.ok(error <= TOLERANCE, `${what}: ${error}`);
  });
}

Deno.test("an encoder leaves nothing on the device", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  using encoder = openTextEncoder(session, pipelineFor("5b"));
  await encoder.encode([[5, 17, 1, 0, 0]]);
  assert.equal(session.allocatedBytes, 0);
});

Deno.test("prompts give the same embeddings together and in batches", async () => {
  const stored = casesOf("text", "embeddings")[0]!, model = pipelineOf(stored);
  const { device } = await testDevice();
  using session = new Session(device);
  using golden = new Golden(referencePath(stored.file));
  const ids = goldenPrompts(golden).slice(0, 3).map((row) => row.slice(0, 19));
  using whole = openTextEncoder(session, model);
  using paired = openTextEncoder(session, model, { batch: 2 });
  const together = await whole.encode(ids);
  assert.deepEqual(await paired.encode(ids), together);
  assert.deepEqual(await whole.encode([]), []);
  using half = openTextEncoder(session, model, { dtype: "bf16" });
  close("bf16 matrices", (await half.encode(ids))[0]!, together[0]!, 2e-2);
});

/** Writes a safetensors file with the tensors of another that `rename` names. */
function rewrite(source: string, target: string, rename: (name: string) => string | undefined): void {
  using file = openSafetensors(source);
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const [name, { dtype, shape }] of file.tensors) {
    const kept = rename(name);
    if (kept === undefined) continue;
    const bytes = file.readBytes(name);
    header[kept] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
    parts.push(bytes);
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer);
  writeFileSync(target, new Uint8Array([length, text, ...parts].flatMap((part) => [...part])));
}

/** A writable copy of a text encoder's folder, removed afterwards. */
async function withCopy(source: string, body: (model: string, folder: string) => void | Promise<void>): Promise<void> {
  const model = mkdtempSync(join(tmpdir(), "t5-"));
  const folder = join(model, "text_encoder");
  try {
    mkdirSync(folder);
    for (const name of readdirSync(source)) writeFileSync(join(folder, name), readFileSync(join(source, name)));
    await body(model, folder);
  } finally {
    rmSync(model, { recursive: true });
  }
}

Deno.test("an encoder in shards, with the embedding under its other name, gives the same", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const source = join(pipelineFor("5b"), "text_encoder");
  await withCopy(source, async (model, copy) => {
    const weights = join(source, "model.safetensors");
    const renamed = (name: string) => name === "shared.weight" ? "encoder.embed_tokens.weight" : name;
    const shardOf = (name: string) => `model-0000${name.includes("block.0") ? 1 : 2}-of-00002.safetensors`;
    for (const shard of [1, 2]) {
      const file = `model-0000${shard}-of-00002.safetensors`;
      rewrite(weights, join(copy, file), (name) => shardOf(name) === file ? renamed(name) : undefined);
    }
    using whole = openSafetensors(weights);
    const map = [...whole.tensors.keys()].map((name) => [renamed(name), shardOf(name)]);
    writeFileSync(join(copy, "model.safetensors.index.json"), JSON.stringify({ weight_map: Object.fromEntries(map) }));
    rmSync(join(copy, "model.safetensors"));
    using sharded = openTextEncoder(session, model);
    using original = openTextEncoder(session, pipelineFor("5b"));
    const ids = [[5, 17, 1, 0, 0]];
    assert.deepEqual(await sharded.encode(ids), await original.encode(ids));
  });
});

Deno.test("prompts that do not fit are refused", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  using encoder = openTextEncoder(session, pipelineFor("5b"));
  await assert.rejects(encoder.encode([[1, 2], [3]]), /prompt 1 has 1 tokens, prompt 0 has 2/);
  const { vocab_size: size } = JSON.parse(readFileSync(join(pipelineFor("5b"), "text_encoder/config.json"), "utf8"));
  const expected = new RegExp(`prompt 0 holds id ${size}: the vocabulary has ${size}`);
  await assert.rejects(encoder.encode([[size]]), expected);
});

Deno.test("missing tensors and unusable settings are listed together", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const source = join(pipelineFor("5b"), "text_encoder");
  await withCopy(source, (model, copy) => {
    const path = join(copy, "model.safetensors");
    rewrite(
      join(source, "model.safetensors"),
      path,
      (name) => /shared|block\.1\.layer\.0\.layer_norm/.test(name) ? undefined : name,
    );
    assert.throws(() => openTextEncoder(session, model), (error: Error) => {
      assert.match(error.message, /2 problems/);
      assert.match(error.message, /missing "encoder\.block\.1\.layer\.0\.layer_norm\.weight" \[32\]/);
      assert.match(error.message, /missing "shared\.weight" \[\d+,32\]/);
      return true;
    });
    const config = JSON.parse(readFileSync(join(copy, "config.json"), "utf8"));
    const changed = { ...config, feed_forward_proj: "relu", d_model: "32" };
    writeFileSync(join(copy, "config.json"), JSON.stringify(changed));
    assert.throws(() => openTextEncoder(session, model), /2 problems[\s\S]*feed_forward_proj[\s\S]*d_model is "32"/);
  });
});

Deno.test("relative positions fall into the published buckets", () => {
  const starts = [[0, 0], [7, 7], [8, 8], [11, 8], [12, 9], [15, 9], [16, 10], [22, 10], [23, 11], [31, 11]];
  starts.push([32, 12], [45, 12], [46, 13], [63, 13], [64, 14], [90, 14], [91, 15], [200, 15]);
  for (const [distance, bucket] of starts) {
    assert.equal(relativeBucket(-distance!), bucket, `${distance} before`);
    if (distance! > 0) assert.equal(relativeBucket(distance!), bucket! + 16, `${distance} behind`);
  }
  const table = Float32Array.from({ length: 64 }, (_, i) => i);
  const bias = relativeBias(table, 2, 3, 8);
  // Distances -2 to 2 are buckets 2, 1, 0, 17, 18; entry [bucket, head] of the table is 2 * bucket + head.
  assert.deepEqual([...bias], [4, 2, 0, 34, 36, 0, 0, 0, 5, 3, 1, 35, 37, 0, 0, 0]);
});

Deno.test("T5 XXL has the published size and one layer of it fits beside 14 prompts in 2 GiB", () => {
  let total = 32128 * 4096;
  for (const shape of t5ParameterShapes(T5_XXL).values()) total += shape.reduce((a, b) => a * b, 1);
  assert.equal(total, 4_762_310_656);
  const { block } = recordT5(T5_XXL, { prompts: 14, tokens: 226, dtype: "bf16" });
  const { arenaBytes, residentBytes, flops } = cost(block);
  assert.ok(arenaBytes + residentBytes < 2 ** 31, `${arenaBytes} + ${residentBytes}`);
  const matrices = 4 * 4096 * 4096 + 3 * 4096 * 10240;
  assert.ok(flops > 2 * 14 * 226 * matrices, "every matrix is applied to every token");
});

Deno.test("a config of another model is refused with every reason", () => {
  assert.throws(
    () => parseT5Config({ model_type: "umt5", relative_attention_num_buckets: 64, d_kv: 6 }, "config.json"),
    /3 problems[\s\S]*model_type[\s\S]*num_buckets[\s\S]*d_kv is 6/,
  );
});
