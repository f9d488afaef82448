import assert from "node:assert/strict";
import type { NamedLaunch, Target } from "../../../kernels/core/kernel.ts";
import { came, cameSizes } from "../../../kernels/optimizer/came.ts";
import { cameVector, cameVectorSizes } from "../../../kernels/optimizer/came_vector.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { optimizerRuns, settingsOf, valuesAt } from "../../optim/stored.ts";
import { referencePath } from "../../reference.ts";
import { numbers, relativeL2, runLaunch } from "../run.ts";
import { targets } from "../targets.ts";

type Values = Float32Array<ArrayBuffer>;
const DECAYS = { beta1: 0.9, beta2: 0.95, beta3: 0.98, weightDecay: 1e-4 };
const SPEC = { gradients: "f32", copy: "none" } as const;

/** Runs the launches in order on arrays found by name. */
async function runNamed(launches: readonly NamedLaunch[], arrays: Map<string, Values>): Promise<void> {
  for (const { launch, writes } of launches) {
    const names = launch.kernel.buffers.map(({ name }) => name);
    const before = names.map((name) => arrays.get(name)!);
    const after = await runLaunch(launch, before);
    names.forEach((name, i) => {
      if (writes.includes(name)) arrays.set(name, after[i]!);
      else assert.deepEqual(after[i], before[i]);
    });
  }
}

/** Stacks rows of `columns` numbers into rows of `width`. */
function padded(values: ArrayLike<number>, columns: number, width: number): Values {
  const rows = values.length / columns;
  return Float32Array.from({ length: rows * width }, (_, i) => {
    return i % width < columns ? values[Math.floor(i / width) * columns + i % width]! : 0;
  });
}

interface Layout {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly width: number;
}

/** A step list and zeroed state for a matrix or (rows 0) a vector. */
function setUp(
  target: Target,
  layout: Layout,
  decays: typeof DECAYS = DECAYS,
): { launches: NamedLaunch[]; arrays: Map<string, Values> } {
  const vector = { elements: layout.columns, width: layout.width, ...decays };
  const matrix = { ...layout, ...decays };
  const launches = layout.rows === 0 ? cameVector(target, SPEC, vector) : came(target, SPEC, matrix);
  const sizes = layout.rows === 0 ? cameVectorSizes(vector) : cameSizes(matrix);
  const arrays = new Map(Object.entries(sizes).map(([name, size]) => [name, new Float32Array(size)]));
  arrays.set("control", Float32Array.of(0, 1, 0, 0));
  return { launches, arrays };
}

const LAYOUTS: Record<string, Layout> = {
  matrix: { batch: 1, rows: 6, columns: 5, width: 8 },
  vector: { batch: 1, rows: 0, columns: 7, width: 8 },
  lora_b: { batch: 1, rows: 5, columns: 3, width: 4 },
  conv: { batch: 6, rows: 2, columns: 2, width: 4 },
};

const RUNS = optimizerRuns("came").flatMap((stored) =>
  Object.entries(LAYOUTS).map((entry) => [stored, ...entry] as const)
);

for (const [stored, name, layout] of RUNS) {
  Deno.test(`steps of came follow the library (${name})`, async () => {
    const [target] = await targets();
    using file = openSafetensors(referencePath(stored.file));
    const { betas: [beta1, beta2, beta3], weight_decay: weightDecay, steps } = settingsOf(stored);
    const learningRates = file.readF32("lr");
    const { columns, width } = layout;
    const { launches, arrays } = setUp(target!, layout, { beta1, beta2, beta3: beta3!, weightDecay });
    arrays.set("parameters", padded(file.readF32(`param0.${name}`), columns, width));
    for (let step = 0; step < steps; step++) {
      arrays.set("gradients", padded(valuesAt(file, `grads.${name}`, step), columns, width));
      arrays.set("state", Float32Array.of(learningRates[step]!, 0, 0, 1));
      await runNamed(launches, arrays);
      const wanted = padded(valuesAt(file, `params.${name}`, step), columns, width);
      assert.ok(relativeL2(arrays.get("parameters")!, wanted) < 1e-6);
    }
  });
}

Deno.test("came gives the same bits with and without subgroup operations, on a matrix of many parts", async () => {
  for (const layout of [{ batch: 2, rows: 70, columns: 44, width: 44 }, LAYOUTS.vector!]) {
    const results: Values[] = [];
    for (const target of await targets()) {
      const { launches, arrays } = setUp(target, layout);
      const size = arrays.get("moment")!.length;
      arrays.set("parameters", numbers(size, 1));
      arrays.set("state", Float32Array.of(0.01, 0, 0, 1));
      for (let step = 0; step < 2; step++) {
        arrays.set("gradients", numbers(size, step + 2));
        await runNamed(launches, arrays);
      }
      results.push(arrays.get("parameters")!);
    }
    assert.ok(relativeL2(results[0]!, numbers(results[0]!.length, 1)) > 1e-3);
    for (const result of results) assert.deepEqual(result, results[0]);
  }
});

Deno.test("a skipped step of came leaves parameters, moments and means alone", async () => {
  const [target] = await targets();
  for (const layout of [LAYOUTS.matrix!, LAYOUTS.vector!]) {
    const { launches, arrays } = setUp(target!, layout);
    const size = arrays.get("moment")!.length;
    arrays.set("parameters", numbers(size, 1));
    arrays.set("gradients", numbers(size, 2));
    arrays.set("state", Float32Array.of(0.01, 0, 0, 1));
    await runNamed(launches, arrays);
    const before = new Map(arrays);
    arrays.set("gradients", new Float32Array(size).fill(NaN));
    arrays.set("control", Float32Array.of(NaN, NaN, 1, NaN));
    await runNamed(launches, arrays);
    for (const name of ["parameters", "moment", "second_moment", "row_means", "column_means"]) {
      assert.deepEqual(arrays.get(name), before.get(name));
    }
  }
});
