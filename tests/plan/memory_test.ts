/** Placement of transients: nothing alive at the same time overlaps, buffers keep their limit, and little is wasted. */
import assert from "node:assert/strict";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { addInPlace, convert } from "../../kernels/rows/flat.ts";
import { livePeak } from "../../lib/plan/live.ts";
import { lifetimes } from "../../lib/plan/memory.ts";
import { Plan } from "../../lib/plan/plan.ts";
import type { RecordingLimits } from "../../lib/plan/limits.ts";
import { arenaChunks, cost, finish } from "../../lib/plan/recording.ts";
import type { Tensor } from "../../lib/plan/tensor.ts";
import { numbers } from "../kernels/run.ts";

const target = plainTarget(32);
const LIMITS: RecordingLimits = { chunkBytes: 2 ** 20, bindingBytes: 2 ** 20, bindings: 8 };

/** A plan in which every result is made from one made before, up to twenty steps earlier. */
function randomPlan(seed: number): Plan {
  const plan = new Plan({ target });
  const random = numbers(2000, seed);
  const below = (i: number, bound: number) => Math.floor((random[i]! + 0.5) * bound);
  const made: Tensor[] = [plan.resident("input", [64 * 1024], "f32")];
  for (let i = 0; i < 300; i++) {
    const from = made[made.length - 1 - below(3 * i, Math.min(20, made.length))]!;
    const size = Math.min(from.size, 4 * (1 + below(3 * i + 1, 16 * 1024)));
    const to = plan.transient(`t${i}`, [size], "f32");
    const part = from.window(from.name, 0, [size]);
    plan.launch(convert({ x: "f32", y: "f32" }, { elements: size }), [part, to], [to]);
    made.push(to);
  }
  plan.output(made.at(-1)!);
  return plan;
}

for (const seed of [1, 2, 3, 4]) {
  Deno.test(`transients of random plan ${seed} never overlap while both are alive`, () => {
    const plan = randomPlan(seed);
    const { steps, memory } = finish(plan, LIMITS);
    const spans = lifetimes(steps, plan.outputs).map((span) => ({ ...span, ...memory.places.get(span.tensor)![0]! }));
    assert.equal(spans.length, memory.places.size);
    for (const [i, a] of spans.entries()) {
      assert.ok(a.offset % 256 === 0 && a.offset + a.bytes <= memory.chunks[a.chunk]!);
      for (const b of spans.slice(0, i)) {
        const together = a.first <= b.last && b.first <= a.last && a.chunk === b.chunk;
        const overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
        assert.ok(!(together && overlap), `${a.tensor.name} and ${b.tensor.name}`);
      }
    }
    assert.ok(memory.chunks.every((bytes) => bytes <= LIMITS.chunkBytes));
    const total = memory.chunks.reduce((sum, bytes) => sum + bytes, 0);
    const { bytes } = livePeak(steps, plan.outputs);
    assert.ok(total >= bytes && total < 1.25 * bytes + 2 ** 18, `${total} bytes for ${bytes} alive`);
  });
}

Deno.test("the live peak is the largest sum over steps, and names what is alive", () => {
  const plan = randomPlan(9);
  const { steps } = finish(plan, LIMITS);
  const spans = lifetimes(steps, plan.outputs);
  const alive = steps.map((_, i) =>
    spans.reduce((sum, { first, last, bytes }) => first <= i && i <= last ? sum + bytes : sum, 0)
  );
  const peak = livePeak(steps, plan.outputs);
  assert.equal(peak.bytes, Math.max(...alive));
  assert.equal(alive[peak.step], peak.bytes);
  assert.equal(peak.tensors.reduce((sum, { bytes }) => sum + bytes, 0), peak.bytes);
});

Deno.test("an arena for several plans has the larger of each buffer", () => {
  const recordings = [randomPlan(1), randomPlan(2)].map((plan) => finish(plan, LIMITS));
  const [a, b] = recordings.map(({ memory }) => memory.chunks) as [readonly number[], readonly number[]];
  const shared = arenaChunks(recordings);
  assert.equal(shared.length, Math.max(a.length, b.length));
  shared.forEach((bytes, i) => assert.equal(bytes, Math.max(a[i] ?? 0, b[i] ?? 0)));
});

Deno.test("equal parameters share a uniform block", () => {
  const plan = new Plan({ target });
  const [a, b] = ["a", "b"].map((name) => plan.resident(name, [1024], "f32")) as [Tensor, Tensor];
  for (let i = 0; i < 5; i++) {
    plan.launch(addInPlace({ a: "f32", b: "f32" }, { elements: 1024 }), [a, b], [a]);
  }
  const recording = finish(plan, LIMITS);
  assert.equal(recording.uniforms.length, 1);
  const { launches, residentBytes, trafficBytes, flops } = cost(recording);
  assert.deepEqual({ launches, residentBytes, trafficBytes, flops }, {
    launches: 5,
    residentBytes: 2 * 4096,
    trafficBytes: 5 * 2 * 4096,
    flops: 5 * 1024,
  });
});
