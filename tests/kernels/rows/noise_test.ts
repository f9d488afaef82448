/** Random numbers: the kernel and its twin on the host give the same bits, spread evenly, and seeds share no stretch. */
import assert from "node:assert/strict";
import { noise, noiseOnHost } from "../../../kernels/rows/noise.ts";
import { openDevice } from "../../../lib/gpu/device.ts";
import { Executable } from "../../../lib/gpu/executable.ts";
import { Session } from "../../../lib/gpu/session.ts";
import { encodeF32 } from "../../../lib/io/safetensors/half.ts";
import { Plan } from "../../../lib/plan/plan.ts";
import { finish } from "../../../lib/plan/recording.ts";
import { Tensor } from "../../../lib/plan/tensor.ts";
import { engine } from "../../engine.ts";

const shape = { elements: 200_000, seed: 0xdeadbeef, scale: Math.sqrt(12 / 3072) };

Deno.test("the kernel draws what the host draws, in every storage type", async () => {
  using device = await openDevice({ engine });
  using session = new Session(device);
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    const tensor = new Tensor("x", [shape.elements], dtype, { resident: true });
    const plan = new Plan({ target: device.target });
    plan.launch(noise({ y: dtype }, shape), [tensor], [tensor]);
    using executable = new Executable(session, finish(plan, session.limits));
    await executable.run();
    const [found] = await session.read([tensor]);
    const expected = encodeF32(noiseOnHost(shape), dtype);
    assert.deepEqual(new Uint8Array(found!), expected, dtype);
    session.free(tensor);
  }
});

Deno.test("numbers have the variance of the scale and no mean, and parts continue each other", () => {
  const values = noiseOnHost(shape);
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
  // Five deviations: of the mean s / sqrt(n), of the variance of a uniform number s^2 sqrt(4 / 5n).
  assert.ok(Math.abs(mean) < 5 * 3072 ** -0.5 / Math.sqrt(values.length));
  assert.ok(Math.abs(variance * 3072 - 1) < 5 * Math.sqrt(0.8 / values.length));
  assert.deepEqual(noiseOnHost({ ...shape, elements: 1000 }, 5000), values.slice(5000, 6000));
});

Deno.test("two seeds have no more numbers in common at the same distance than chance brings", () => {
  const [a, b] = [1, 2].map((seed) => noiseOnHost({ elements: 4096, seed }));
  const places = new Map([...a!].map((value, i) => [value, i]));
  const distances = [...b!].flatMap((value, i) => places.has(value) ? [places.get(value)! - i] : []);
  assert.ok(distances.length < 20, `${distances.length} of 4096 are shared`);
});
