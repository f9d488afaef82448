/** Every optimizer through recorded plans over packed trainables, against the trajectories of the reference libraries. */
import assert from "node:assert/strict";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import { cost } from "../../lib/plan/recording.ts";
import { averagedTrainables } from "../../lib/optim/average.ts";
import { relativeL2, rounded } from "../kernels/run.ts";
import { caseName, referencePath } from "../reference.ts";
import { NAMES, trueNumbers, twoBuckets, Updater } from "./fixture.ts";
import { configurableRuns, optimizerOf, settingsOf, valuesAt } from "./stored.ts";

const OPTIMIZERS = ["adamw", "adam", "prodigy", "came", "adamw8bit"] as const;
const EXACT = ["adamw", "adam", "prodigy", "came"] as const;
const STEPS = 20;

const initial = (name: string) => trueNumbers(name, 1);
const gradientOf = (step: number) => (name: string) => trueNumbers(name, 100 * step);
const learningRateOf = (optimizer: string) => optimizer === "prodigy" ? 1 : 1e-2;

/** A step with one NaN among its gradients must leave every bit of masters and states alone. */
async function assertSkipped(updater: Updater, learningRate: number, step: number): Promise<void> {
  const before = await updater.saved();
  await updater.step((name) => name === "lora_b" ? trueNumbers(name, 1).fill(NaN, 7, 8) : trueNumbers(name, 1), {
    learningRate,
    step,
  });
  const after = await updater.saved();
  for (const [name, bits] of before) {
    // Third word of the distance: the step size of a step under way, which a skipped one sets to zero.
    const [from, to] = name === "distance" ? [bits.slice(0, 2), after.get(name)!.slice(0, 2)] : [bits, after.get(name)];
    assert.deepEqual(to, from, name);
  }
  const [control] = await updater.session.read([updater.optimizer.control]);
  assert.equal(new Float32Array(control!)[2], 1);
}

for (const stored of configurableRuns()) {
  Deno.test(
    `steps of ${caseName(stored)} follow the library through a plan, a skipped step and a loss scale between`,
    async () => {
      using file = openSafetensors(referencePath(stored.file));
      const rates = file.readF32("lr");
      const { steps } = settingsOf(stored);
      const config = { ...optimizerOf(stored), ema_decay: 0.9 };
      using updater = await Updater.start(config, (tensor) => file.readF32(`param0.${tensor}`));
      const averages = new Map(NAMES.map((tensor) => [tensor, Float64Array.from(file.readF32(`param0.${tensor}`))]));
      for (let step = 0; step < steps; step++) {
        if (step === Math.floor(steps / 2)) await assertSkipped(updater, rates[step]!, step + 1);
        const scale = 2 ** (step % 3);
        const gradients = (tensor: string) => valuesAt(file, `grads.${tensor}`, step).map((g) => g * scale);
        await updater.step(gradients, { learningRate: rates[step]!, step: step + 1 }, scale);
        for (const tensor of NAMES) {
          const expected = valuesAt(file, `params.${tensor}`, step);
          const error = relativeL2(await updater.master(tensor), expected);
          assert.ok(error < 1e-6, `${tensor} after step ${step} differs by ${error}`);
          averages.get(tensor)!.forEach((old, i, all) => all[i] = 0.9 * old + 0.1 * expected[i]!);
        }
        if (updater.optimizer.rule.distance !== undefined) {
          const [d] = await updater.session.readF32(updater.optimizer.rule.distance);
          const expected = file.readF32("d")[step]!;
          assert.ok(
            Math.abs(d! - expected) < 2e-6 * expected,
            `distance after step ${step}: ${d}, expected ${expected}`,
          );
        }
      }
      const averaged = averagedTrainables(updater.trainables, updater.optimizer.averages);
      for (const { name: tensor, shape, trueShape, master } of averaged.byName.values()) {
        const values = await updater.session.readF32(master);
        const width = shape.at(-1)!;
        const columns = trueShape.length === 4 ? width : trueShape.at(-1)!;
        const used = values.filter((_, i) => i % width < columns).slice(0, averages.get(tensor)!.length);
        assert.ok(relativeL2(used, averages.get(tensor)!) < 1e-6, `average of ${tensor}`);
      }
    },
  );
}

/** How far all masters have come; Prodigy's first steps are so small that only its own record of them has digits. */
async function moved(updater: Updater): Promise<Float64Array> {
  const offsets = [...updater.optimizer.states.values()].filter(({ name }) => name.startsWith("offset"));
  const read = await Promise.all(offsets.map((tensor) => updater.session.readF32(tensor)));
  if (read.length > 0) return Float64Array.from(read.flatMap((values) => [...values]));
  const start = NAMES.flatMap((name) => [...initial(name)]);
  return Float64Array.from(await updater.masters(), (value, i) => start[i]! - value);
}

for (const optimizer of EXACT) {
  Deno.test(`${optimizer} clips to the global norm as if gradients had come clipped`, async () => {
    using clipped = await Updater.start({ optimizer, max_grad_norm: 0.5 }, initial);
    using given = await Updater.start({ optimizer }, initial);
    for (let step = 1; step <= 4; step++) {
      const scalars = { learningRate: learningRateOf(optimizer), step };
      const large = (name: string) => gradientOf(step)(name).map((g) => 3 * g);
      const norm = Math.sqrt(NAMES.flatMap((name) => [...large(name)]).reduce((sum, g) => sum + g * g, 0));
      await clipped.step(large, scalars);
      await given.step((name) => large(name).map((g) => g * 0.5 / (norm + 1e-6)), scalars);
      const [reported] = await clipped.session.readF32(clipped.optimizer.control);
      assert.ok(norm > 1 && Math.abs(reported! - norm) < 1e-6 * norm);
    }
    const expected = await moved(given);
    assert.ok(expected.some((value) => value !== 0));
    assert.ok(relativeL2(await moved(clipped), expected) < 1e-5);
  });
}

for (const optimizer of OPTIMIZERS) {
  const rate = learningRateOf(optimizer);

  Deno.test(`${optimizer} continues from its saved states with the same bits`, async () => {
    const config = { optimizer, max_grad_norm: 1, ema_decay: 0.99 };
    using whole = await Updater.start(config, initial);
    using resumed = await Updater.start(config, (name) => trueNumbers(name, 7));
    for (let step = 1; step <= 6; step++) {
      await whole.step(gradientOf(step), { learningRate: rate, step });
      if (step === 3) resumed.restore(await whole.saved());
      else if (step > 3) await resumed.step(gradientOf(step), { learningRate: rate, step });
    }
    assert.deepEqual(await resumed.saved(), await whole.saved());
  });

  Deno.test(`${optimizer} writes working copies and gives the same bits from host memory`, async () => {
    using onGpu = await Updater.start({ optimizer }, initial, twoBuckets("bf16"));
    const places = { values: true, gradients: true, copies: true };
    using onHost = await Updater.start({ optimizer, ema_decay: 0.5 }, initial, twoBuckets("bf16", places));
    for (let step = 1; step <= 3; step++) {
      for (const updater of [onGpu, onHost]) await updater.step(gradientOf(step), { learningRate: rate, step });
    }
    const hostStates = await onHost.saved();
    for (const [name, bits] of await onGpu.saved()) assert.deepEqual(hostStates.get(name), bits, name);
    for (const updater of [onGpu, onHost]) {
      for (const { copy, tensors } of updater.trainables.buckets) {
        const [bytes] = await updater.session.read([copy!]);
        for (const { name, master, shape } of tensors) {
          const halves = new Uint16Array(bytes!, master.byteOffset / 2, shape.reduce((a, b) => a * b));
          const widened = new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
          const values = await updater.session.readF32(master);
          assert.deepEqual(widened, values.map((value) => rounded(value, "bf16")), name);
        }
      }
    }
  });

  Deno.test(`${optimizer} allocates what its recording plans`, async () => {
    using updater = await Updater.start({ optimizer, ema_decay: 0.9 }, initial);
    await updater.step(gradientOf(1), { learningRate: rate, step: 1 });
    const { arenaBytes, residentBytes, uniformBytes } = cost(updater.recording);
    assert.equal(updater.session.allocatedBytes, arenaBytes + residentBytes + uniformBytes);
  });
}

Deno.test("8-bit moments stay within 5% of exact AdamW over 20 steps", async () => {
  using exact = await Updater.start({ optimizer: "adamw" }, initial);
  using coded = await Updater.start({ optimizer: "adamw8bit" }, initial);
  for (let step = 1; step <= STEPS; step++) {
    for (const updater of [exact, coded]) await updater.step(gradientOf(step), { learningRate: 1e-2, step });
  }
  await assertSkipped(coded, 1e-2, STEPS + 1);
  assert.ok(relativeL2(await moved(coded), await moved(exact)) < 0.05);
});
