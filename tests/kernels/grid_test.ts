/** Grids of more workgroups than one dimension of a device holds. */
import assert from "node:assert/strict";
import { foldGrid } from "../../kernels/core/kernel.ts";
import { buildKernel } from "../../kernels/core/wgsl.ts";
import { runLaunch } from "./run.ts";

Deno.test("a folded grid has a place for every workgroup, and neither side exceeds 65,535", () => {
  assert.deepEqual([0, 1, 65_535].map(foldGrid), [[1, 1, 1], [1, 1, 1], [65_535, 1, 1]]);
  for (const count of [65_536, 65_537, 200_000, 2 ** 31]) {
    const [x, y, z] = foldGrid(count);
    assert.ok(x <= 65_535 && y <= 65_535 && z === 1, `${count}: ${x} x ${y}`);
    // Less than a row of them is idle.
    assert.ok(x * y >= count && x * y < count + y, `${count}: ${x} x ${y}`);
  }
  assert.throws(() => foldGrid(2 ** 32), RangeError);
});

Deno.test("every workgroup of a folded grid has a number of its own", async () => {
  const count = 70_000;
  const kernel = buildKernel({
    name: "numbers_of_workgroups",
    spec: {},
    params: ["count"],
    buffers: [{ name: "y", dtype: "u32" }],
    workgroupSize: 1,
    body: "if (wg < params.count) { store_y(wg, load_y(wg) + gid + 1u); }",
  });
  const [numbers] = await runLaunch({ kernel, params: [count], grid: foldGrid(count), flops: 0 }, [count]);
  assert.equal(numbers!.findIndex((number, i) => number !== i + 1), -1);
});
