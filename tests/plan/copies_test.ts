/** Tensors in host memory and in few bits: what a plan copies and widens for the launches that use them, and when. */
import assert from "node:assert/strict";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { addInPlace } from "../../kernels/rows/flat.ts";
import { quantisedTensor } from "../../lib/models/tensors/quantise.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { cost, finish, type Recording } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";

const target = plainTarget(32);
const KIB = 1024;

function add(plan: Plan, a: Tensor, b: Tensor): void {
  plan.launch(addInPlace({ a: a.dtype, b: b.dtype }, { elements: b.size }), [a, b], [a]);
}

const host = (name: string, size = 256) => new Tensor(name, [size], "f32", { host: true });

/** Steps as words: `add`, `up NAME`, `down NAME`, `dequantise`. */
function words({ steps }: Recording): string[] {
  return steps.map((step) => {
    if (step.kind === "launch") return step.launch.kernel.key.split("(")[0]!;
    const [from, to] = step.tensors;
    return from.host ? `up ${from.name}` : `down ${to.name}`;
  });
}

Deno.test("a host tensor is copied once for all launches up to the release, and only down when it changed", () => {
  const plan = new Plan({ target });
  const [weight, sum, sink] = [host("weight"), host("sum"), plan.resident("sink", [256], "f32")];
  add(plan, sink, weight);
  add(plan, sum, weight);
  add(plan, sum, weight);
  plan.release();
  add(plan, sink, weight);
  const recording = finish(plan, DISCRETE_LIMITS);
  assert.deepEqual(words(recording), [
    "up weight",
    "add_in_place",
    "up sum",
    "add_in_place",
    "add_in_place",
    "down sum",
    "up weight",
    "add_in_place",
  ]);
  const { uploadBytes, downloadBytes, hostBytes, residentBytes, arenaBytes } = cost(recording);
  assert.deepEqual({ uploadBytes, downloadBytes, hostBytes, residentBytes }, {
    uploadBytes: 3 * KIB,
    downloadBytes: KIB,
    hostBytes: 2 * KIB,
    residentBytes: KIB,
  });
  assert.equal(arenaBytes, 2 * KIB);
});

Deno.test("windows of one host tensor share its copy", () => {
  const plan = new Plan({ target });
  const bucket = host("bucket", 512);
  const [low, high] = [bucket.window("low", 0, [256]), bucket.window("high", 256, [256])];
  add(plan, low, high);
  const recording = finish(plan, DISCRETE_LIMITS);
  assert.deepEqual(words(recording), ["up bucket", "add_in_place", "down bucket"]);
  const launch = recording.steps[1]!;
  assert.deepEqual(launch.tensors.map(({ byteOffset }) => byteOffset), [0, KIB]);
  assert.equal(launch.tensors[0]!.owner, launch.tensors[1]!.owner);
});

Deno.test("a copy for a launch that is dropped is dropped with it", () => {
  const plan = new Plan({ target });
  add(plan, plan.transient("unread", [256], "f32"), host("weight"));
  assert.deepEqual(words(finish(plan, DISCRETE_LIMITS)), []);
});

Deno.test("a quantised tensor is widened once a window and takes the memory of its codes", () => {
  const plan = new Plan({ target });
  const weight = quantisedTensor("weight", [4, 64], "f32", "nf4");
  const sink = plan.resident("sink", [256], "f32");
  for (let i = 0; i < 2; i++) {
    add(plan, sink, weight);
    add(plan, sink, weight);
    plan.release();
  }
  const recording = finish(plan, DISCRETE_LIMITS);
  const window = ["dequantise", "add_in_place", "add_in_place"];
  assert.deepEqual(words(recording), [...window, ...window]);
  assert.deepEqual(recording.residents.map(({ name }) => name), ["weight codes", "weight scales", "sink"]);
  assert.equal(weight.quantised!.codes.bytes, 4 * 64 / 2);
});
