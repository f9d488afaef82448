/** Truncated singular value decomposition, and LoRAs extracted from fine-tuned weights. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { extractLora } from "../../../lib/models/lora/extract.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { truncatedSvd } from "../../../lib/models/lora/svd.ts";
import { mergeLora, storedTypes, updater } from "../../../lib/models/lora/merge_into_weights.ts";
import { openTransformer, type TransformerTensor, writeTransformer } from "../../../lib/models/transformer/file.ts";
import { numbers } from "../../kernels/run.ts";
import { pipelineFor } from "../../reference.ts";
import { textLora } from "./stored.ts";

/** Reflection I - 2 v v^T / |v|^2, an orthogonal matrix with no structure. */
function orthogonal(size: number, seed: number): Float64Array {
  const v = numbers(size, seed);
  const square = v.reduce((sum, x) => sum + x * x, 0);
  return Float64Array.from({ length: size * size }, (_, at) => {
    const [row, column] = [Math.floor(at / size), at % size];
    return (row === column ? 1 : 0) - 2 * v[row]! * v[column]! / square;
  });
}

/** Matrix [rows, columns] with the given singular values. */
function withSingularValues(rows: number, columns: number, values: readonly number[]): Float64Array {
  const [u, v] = [orthogonal(rows, 5), orthogonal(columns, 6)];
  return Float64Array.from({ length: rows * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    return values.reduce((sum, s, i) => sum + u[row * rows + i]! * s * v[i * columns + column]!, 0);
  });
}

function reconstructionError(
  matrix: Float64Array,
  rows: number,
  columns: number,
  { u, s, vt }: ReturnType<typeof truncatedSvd>,
): number {
  let square = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let value = matrix[row * columns + column]!;
      for (let r = 0; r < s.length; r++) value -= u[row * s.length + r]! * s[r]! * vt[r * columns + column]!;
      square += value * value;
    }
  }
  return Math.sqrt(square);
}

Deno.test("a matrix of low rank is decomposed to rounding", () => {
  for (const [rows, columns, rank] of [[40, 60, 3], [60, 40, 3], [7, 5, 5], [5, 1, 1], [33, 33, 3]] as const) {
    const values = [9, 4, 0.5, 0.25, 1e-3].slice(0, Math.min(rank, rows, columns));
    const matrix = withSingularValues(rows, columns, values);
    const svd = truncatedSvd(matrix, rows, columns, rank);
    values.forEach((value, i) => assert.ok(Math.abs(svd.s[i]! - value) < 1e-12, `${svd.s[i]} ${value}`));
    assert.ok(reconstructionError(matrix, rows, columns, svd) < 1e-12);
  }
});

Deno.test("of a matrix of full rank the largest part is kept, within one per cent of the best", () => {
  // The best approximation of rank r misses the root of the sum of the other squares (Eckart, Young 1936).
  const values = Array.from({ length: 60 }, (_, i) => 1 / Math.sqrt(i + 1));
  const matrix = withSingularValues(60, 90, values);
  const best = Math.sqrt(values.slice(8).reduce((sum, s) => sum + s * s, 0));
  const error = reconstructionError(matrix, 60, 90, truncatedSvd(matrix, 60, 90, 8));
  assert.ok(error >= best * (1 - 1e-12) && error <= 1.01 * best, `${error} ${best}`);
});

Deno.test("a zero matrix and impossible ranks are no trap", () => {
  const svd = truncatedSvd(new Float64Array(12), 3, 4, 2);
  assert.deepEqual([...svd.s], [0, 0]);
  assert.ok([...svd.u, ...svd.vt].every(Number.isFinite));
  for (const rank of [0, 4, 1.5]) assert.throws(() => truncatedSvd(new Float64Array(12), 3, 4, rank), RangeError);
});

Deno.test("what merging added is extracted again", async () => {
  const stored = textLora();
  const temporary = mkdtempSync(join(tmpdir(), "extract-"));
  try {
    using base = openTransformer(stored.model);
    const lora = readLora(stored.meta);
    const target = join(temporary, "tuned");
    const bias = "transformer_blocks.0.attn1.to_q.bias";
    const tensors = mergeLora(base.source, lora.modules).map((tensor): TransformerTensor => {
      if (tensor.name !== bias) return tensor;
      const moved = base.source.readF32(bias).map((value) => 1.5 * value);
      return { ...tensor, dtype: "f32", data: () => [new Uint8Array(moved.buffer)] };
    });
    await writeTransformer(target, base.configJson, tensors, { dtype: storedTypes(base.source) });
    using tuned = openTransformer(target);
    const seen: string[] = [];
    const { modules, losses, error, left } = await extractLora(base, tuned, {
      rank: stored.rank,
      onLayer: (layer) => seen.push(layer),
    });
    assert.deepEqual([...modules.keys()], [...lora.modules.keys()].sort((a, b) => seen.indexOf(a) - seen.indexOf(b)));
    // Weights are stored in f32, whose rounding is 1e-5 of so small a change.
    assert.ok(error < 1e-4, `missed ${error}`);
    for (const [layer, { inFeatures, outFeatures, ...module }] of lora.modules) {
      const [expected, found] = [
        new Float32Array(outFeatures * inFeatures),
        new Float32Array(outFeatures * inFeatures),
      ];
      updater({ inFeatures, outFeatures, ...module }, 1)(expected, 0);
      updater(modules.get(layer)!, 1)(found, 0);
      const norm = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0));
      const distance = Math.sqrt(expected.reduce((sum, x, i) => sum + (x - found[i]!) ** 2, 0));
      assert.ok(distance < 1e-4 * norm, `${layer}: ${distance / norm}`);
      const loss = losses.find((loss) => loss.layer === layer)!;
      const weight = Math.sqrt(base.source.readF32(`${layer}.weight`).reduce((sum, x) => sum + x * x, 0));
      assert.ok(Math.abs(loss.change - norm / weight) < 1e-4 * loss.change);
    }
    assert.deepEqual(left.map(({ name }) => name), [bias]);
    assert.ok(Math.abs(left[0]!.change - 0.5) < 1e-6);
    // Half the rank keeps the larger half of the singular values.
    const half = await extractLora(base, tuned, { rank: Math.floor(stored.rank / 2), targets: ["to_q"] });
    assert.equal(half.modules.size, base.config.num_layers);
    assert.ok(half.error > 0.05 && half.error < Math.SQRT1_2, `${half.error}`);
    // The other adapted weights, and the bias.
    assert.equal(half.left.length, lora.modules.size - half.modules.size + 1);
    const none = await extractLora(base, base, { rank: stored.rank });
    assert.deepEqual([none.modules.size, none.left.length], [0, 0]);
    using other = openTransformer(pipelineFor("5b-i2v"));
    await assert.rejects(extractLora(other, tuned, { rank: 4 }), /Cannot compare two models[\s\S]*5B-I2V[\s\S]*5B \(/);
  } finally {
    rmSync(temporary, { recursive: true });
  }
});
