/**
 * A NaN or an infinity in any state of any optimizer is told of by the update that reads it, on the GPU and in host
 * memory; a state that a finite gradient would make infinite is left as it is.
 */
import assert from "node:assert/strict";
import { encodeF32, type StorageType } from "../../lib/io/safetensors/half.ts";
import type { PackOptions } from "../../lib/models/tensors/trainables.ts";
import { type OptimizerConfig, uploadControl } from "../../lib/optim/update.ts";
import type { Tensor } from "../../lib/plan/tensor.ts";
import { brokenTensor } from "../../lib/step/broken_tensor.ts";
import { RECIPE, trueNumbers, twoBuckets, Updater } from "./fixture.ts";

const VALUES = [NaN, Infinity, -Infinity];

/** Every optimizer with every state that it may have. */
const OPTIMIZERS: Readonly<Record<string, { config: Partial<OptimizerConfig>; pack?: PackOptions }>> = {
  adamw: { config: { optimizer: "adamw" } },
  adam: { config: { optimizer: "adam" } },
  prodigy: { config: { optimizer: "prodigy" } },
  came: { config: { optimizer: "came" } },
  adamw8bit: { config: { optimizer: "adamw8bit" } },
  "adamw over bf16, Kahan": {
    config: { optimizer: "adamw", master_weights: "bf16_kahan", ema_decay: 0 },
    pack: { masters: "bf16" },
  },
  "adam over bf16, stochastic": {
    config: { optimizer: "adam", master_weights: "bf16_stochastic", ema_decay: 0 },
    pack: { masters: "bf16" },
  },
};

const initial = (name: string) => trueNumbers(name, 1);
const gradients = (name: string) => trueNumbers(name, 2);
const rateOf = ({ optimizer }: Partial<OptimizerConfig>) => optimizer === "prodigy" ? 1 : 1e-2;

/** Elements that are in use: CAME packs means of rows and columns at multiples of 64, with two unused places a row. */
function elementsOf(name: string): number[] {
  if (name === "distance") return [0, 1];
  return name.startsWith("factors") ? [0, 1, 64, 68] : [1];
}

async function spoil({ session }: Updater, tensor: Tensor, element: number, value: number): Promise<void> {
  const [bytes] = await session.read([tensor]);
  const spoilt = encodeF32(Float32Array.of(value), tensor.dtype as StorageType);
  new Uint8Array(bytes!).set(spoilt, element * spoilt.byteLength);
  session.write(tensor, new Uint8Array(bytes!));
}

/** Whether the last update said that something is not finite, and whether it was left out. */
async function outcome(
  { session, optimizer }: Updater,
): Promise<{ readonly broken: boolean; readonly skipped: boolean }> {
  const [, , skip, broken] = await session.readF32(optimizer.control);
  return { broken: broken !== 0, skipped: skip !== 0 };
}

for (const [name, { config, pack = {} }] of Object.entries(OPTIMIZERS)) {
  for (const host of [false, true]) {
    Deno.test(`${name}${host ? ", offloaded" : ""}: an update tells of a state that is not finite`, async () => {
      const places = pack.masters === "bf16" ? { gradients: host } : { values: host, gradients: host };
      const trainables = twoBuckets(pack.masters ?? "f32", { ...pack, ...places });
      using updater = await Updater.start({ ema_decay: 0.9, ...config }, initial, trainables);
      const learningRate = rateOf(config);
      for (const step of [1, 2]) await updater.step(gradients, { learningRate, step });
      const before = await updater.saved();
      await updater.step(gradients, { learningRate, step: 3 });
      assert.deepEqual(await outcome(updater), { broken: false, skipped: false });
      const expected = await updater.saved();
      const masters = trainables.buckets.map(({ values }, i) => [`values.${i}`, values] as const);
      let told = 0;
      for (const [state, tensor] of [...updater.optimizer.states, ...masters]) {
        if (tensor.dtype === "u32") continue;
        for (const element of elementsOf(state)) {
          for (const value of VALUES) {
            updater.restore(before);
            await spoil(updater, tensor, element, value);
            await updater.step(gradients, { learningRate, step: 3 });
            const { broken } = await outcome(updater);
            // What an update does not read cannot spoil it.
            if (!broken) assert.deepEqual(await updater.saved(), expected, `${value} in ${state} at ${element}`);
            if (broken) told++;
            if (broken) assert.match(await brokenTensor(updater.session, updater.optimizer), /is NaN or infinite/);
          }
        }
      }
      const states = [...updater.optimizer.states.values()].filter(({ dtype }) => dtype !== "u32").length;
      assert.ok(told >= 3 * (states + masters.length), `${told} told of`);
    });
  }

  Deno.test(`${name}: finite gradients whose squares are not leave everything as it was`, async () => {
    using updater = await Updater.start(config, initial, twoBuckets(pack.masters ?? "f32", pack));
    const learningRate = rateOf(config);
    await updater.step(gradients, { learningRate, step: 1 });
    const before = await updater.saved();
    await updater.step((tensor) => gradients(tensor).fill(1e20, 0, 1), { learningRate, step: 2 });
    assert.deepEqual(await outcome(updater), { broken: false, skipped: true });
    const after = await updater.saved();
    // The step size of a step under way, which a skipped one sets to zero.
    for (const saved of [before, after]) saved.get("distance")?.fill(0, 2);
    assert.deepEqual(after, before);
    // Where the host adds the squares, in float64.
    uploadControl(updater.session, updater.optimizer, { ...RECIPE, ...config }, { squares: 1e40, lossScale: 1 });
    assert.deepEqual(await outcome(updater), { broken: false, skipped: true });
  });
}

Deno.test("the value that is not finite is named as in a checkpoint, with the tensor that it belongs to", async () => {
  using updater = await Updater.start({ optimizer: "adamw" }, initial);
  const second = updater.trainables.byName.get("conv")!;
  await spoil(updater, updater.optimizer.states.get("v.1")!, second.master.byteOffset / 4 + 2, Infinity);
  const expected = `"v.1" of conv is NaN or infinite at element ${second.master.byteOffset / 4 + 2}`;
  assert.equal(await brokenTensor(updater.session, updater.optimizer), expected);
});
