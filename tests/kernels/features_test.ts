/** What a text uses is read from it, so that each engine's directives can be put in front. */
import assert from "node:assert/strict";
import { buildKernel } from "../../kernels/core/wgsl.ts";

function featuresOf(body: string, lane = false): readonly string[] {
  return buildKernel({ name: "t", spec: {}, buffers: [], params: ["n"], workgroupSize: 32, lane, body }).features;
}

Deno.test("a text's features are found by its types and builtins", () => {
  assert.deepEqual(featuresOf("let x = unpack2x16float(params.n);"), []);
  assert.deepEqual(featuresOf("let x = f16(1.0);"), ["f16"]);
  assert.deepEqual(featuresOf("let x = vec4h(1.0);"), ["f16"]);
  assert.deepEqual(featuresOf("let x = subgroupShuffleXor(1.0, 1u);"), ["subgroups"]);
  assert.deepEqual(featuresOf("let x = lane;", true), ["subgroups"]);
  const load = "subgroupMatrixLoad<subgroup_matrix_left<f16, 8, 8>, row_major>(&a, 0u, 8u)";
  assert.deepEqual(featuresOf(`let x = ${load};`), ["f16", "subgroup_matrix"]);
  assert.deepEqual(featuresOf(`let x = ${load}; let y = subgroupAdd(1.0);`), ["f16", "subgroups", "subgroup_matrix"]);
});
