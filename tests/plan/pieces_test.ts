/** Tensors in pieces: what is cut where, what kernels are told, and how pieces are placed. */
import assert from "node:assert/strict";
import { plainTarget } from "../../kernels/core/kernel.ts";
import { addInPlace, convert } from "../../kernels/rows/flat.ts";
import { Executable } from "../../lib/gpu/executable.ts";
import { pieceRanges, storedPieces } from "../../lib/plan/pieces.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { DISCRETE_LIMITS, type RecordingLimits } from "../../lib/plan/limits.ts";
import { finish } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { LimitedSession, piecesOf } from "../limited_session.ts";

const target = plainTarget(0);

function limitsOf(bytes: number): RecordingLimits {
  return { ...DISCRETE_LIMITS, ...piecesOf(bytes) };
}

Deno.test("an owner beyond the largest buffer is stored in pieces that fill buffers and fit bindings", () => {
  const limits = { ...limitsOf(1280), bindingBytes: 800 };
  const owner = (elements: number) => new Tensor("x", [elements], "f32");
  assert.deepEqual(storedPieces(owner(64), limits), [256]);
  assert.deepEqual(storedPieces(owner(320), limits), [1280]);
  // Two pieces to a buffer, aligned.
  assert.deepEqual(storedPieces(owner(324), limits), [512, 512, 512]);
  assert.deepEqual(storedPieces(owner(700), limits), [512, 512, 512, 512, 512, 256]);
});

Deno.test("the ranges of a window are its bytes in order, cut where the pieces of its owner end", () => {
  const owner = new Tensor("x", [1024], "f32");
  const limits = limitsOf(1024);
  const ranges = (offset: number, elements: number) => pieceRanges(owner.window("w", offset, [elements]), limits);
  assert.deepEqual(ranges(64, 64), [{ piece: 0, offset: 256, bytes: 256 }]);
  assert.deepEqual(ranges(256, 256), [{ piece: 1, offset: 0, bytes: 1024 }]);
  assert.deepEqual(ranges(192, 640), [
    { piece: 0, offset: 768, bytes: 256 },
    { piece: 1, offset: 0, bytes: 1024 },
    { piece: 2, offset: 0, bytes: 1024 },
    { piece: 3, offset: 0, bytes: 256 },
  ]);
  // In one buffer, a window is cut by what a binding holds, from its own start on.
  const bound = { ...limits, chunkBytes: 4096 };
  assert.deepEqual(pieceRanges(owner.window("w", 192, [384]), bound), [
    { piece: 0, offset: 768, bytes: 1024 },
    { piece: 0, offset: 1792, bytes: 512 },
  ]);
  assert.deepEqual(pieceRanges(owner, limits, 1020, 8), [
    { piece: 0, offset: 1020, bytes: 4 },
    { piece: 1, offset: 0, bytes: 4 },
  ]);
});

Deno.test("windows across pieces are read and written where they lie", async () => {
  const { device } = await testDevice();
  using session = new LimitedSession(device, piecesOf(1024));
  const plan = new Plan({ target: device.target });
  const [x, y] = ["x", "y"].map((name) => plan.resident(name, [2048], "f32")) as [Tensor, Tensor];
  const half = plan.transient("half", [2048], "f16");
  const spans = [[0, 192], [192, 1088], [1280, 64], [1344, 704]] as const;
  const windows = (tensor: Tensor) => spans.map(([from, size]) => tensor.window(tensor.name, from, [size]));
  const copy = (from: Tensor, to: Tensor) =>
    windows(from).forEach((window, i) => {
      const into = to.window(to.name, spans[i]![0], [window.size]);
      const spec = { x: from.dtype, y: to.dtype };
      plan.launch(convert(spec, { elements: window.size }), [window, into], [into]);
    });
  copy(x, y);
  plan.launch(convert({ x: "f32", y: "f16" }, { elements: 2048 }), [y, half], [half]);
  plan.launch(convert({ x: "f16", y: "f32" }, { elements: 2048 }), [half, y], [y]);
  using executable = new Executable(session, finish(plan, session.limits));
  const values = numbers(2048, 3).map(Math.f16round);
  session.write(x, values);
  await executable.run();
  assert.deepEqual(await session.readF32(y), values);
  assert.deepEqual(new Float32Array((await executable.read([y]))[0]!), values);
  session.copy(x.window("x", 0, [320]), y, 4 * 200);
  assert.deepEqual((await session.readF32(y)).subarray(200, 520), values.subarray(0, 320));
  session.clear([y.window("y", 192, [512])]);
  const expected = values.slice();
  expected.set(values.subarray(0, 320), 200);
  assert.deepEqual(await session.readF32(y), expected.fill(0, 192, 704));
  assert.equal(session.largestBuffer, 1024);
});

Deno.test("a tensor in host memory travels in pieces", async () => {
  const { device } = await testDevice();
  using session = new LimitedSession(device, piecesOf(1024));
  const plan = new Plan({ target: device.target });
  const kept = new Tensor("kept", [1000], "f32", { host: true });
  const step = plan.resident("step", [1000], "f32");
  const shape = { elements: 1000 };
  plan.launch(addInPlace({ a: "f32", b: "f32" }, shape), [kept, step], [kept]);
  using executable = new Executable(session, finish(plan, session.limits));
  const [a, b] = [numbers(1000, 1), numbers(1000, 2)];
  session.write(kept, a);
  session.write(step, b);
  await executable.run();
  assert.deepEqual(await session.readF32(kept), a.map((value, i) => value + b[i]!));
});

Deno.test("pieces are placed one by one, so that no buffer exceeds the limit", () => {
  const plan = new Plan({ target });
  const x = plan.resident("x", [1 << 20], "f32");
  const [y, z] = ["y", "z"].map((name) => plan.output(plan.transient(name, [1 << 20], "f32"))) as [Tensor, Tensor];
  for (const to of [y, z]) {
    plan.launch(convert({ x: "f32", y: "f32" }, { elements: 1 << 20 }), [x, to], [to]);
  }
  const { memory } = finish(plan, limitsOf(3 << 19));
  // 4 MiB are two pieces of 1.5 MiB and one of 1 MiB.
  assert.deepEqual(memory.chunks.toSorted(), [2 << 19, 2 << 19, 3 << 19, 3 << 19, 3 << 19, 3 << 19]);
  assert.deepEqual([y, z].map((tensor) => memory.places.get(tensor)!.length), [3, 3]);
});

Deno.test("launches that need no division are what was recorded", () => {
  const plan = new Plan({ target });
  const [a, b] = ["a", "b"].map((name) => plan.resident(name, [1024], "f32")) as [Tensor, Tensor];
  plan.launch(addInPlace({ a: "f32", b: "f32" }, { elements: 1024 }), [a, b], [a]);
  const { steps, launches } = finish(plan, DISCRETE_LIMITS);
  assert.ok(steps[0]!.kind === "launch" && launches[0] === steps[0]!.launch);
});

Deno.test("a launch with more pieces than a device binds is refused with the tensors it binds", () => {
  const plan = new Plan({ target });
  const x = plan.resident("wide", [2 ** 19], "f32");
  plan.launch(addInPlace({ a: "f32", b: "f32" }, { elements: 4 }), [x, plan.resident("b", [4], "f32")], [x]);
  assert.throws(
    () => finish(plan, limitsOf(2 ** 16)),
    /at most 65536 bytes in a binding its tensors take 33, and this device has 32: "wide" \[524288\], "b" \[4\]/,
  );
});
