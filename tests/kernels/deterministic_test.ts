/** Sums have a fixed order: no kernel adds by atomics, and a step has the same bits however often it is made. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { adamFamily, adamState } from "../../kernels/optimizer/adam.ts";
import { squareSlots, sumOfSquares } from "../../kernels/reduce/sums.ts";
import { fromFileUrl } from "../paths.ts";
import { runTiny, tinyConfig } from "../step/tiny_run.ts";
import { numbers, runLaunch } from "./run.ts";
import { targets } from "./targets.ts";
import { everyVariant } from "./variants.ts";

Deno.test("no kernel adds in an order that depends on which thread comes first", () => {
  const folder = fromFileUrl("../../kernels", import.meta.url);
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  assert.ok(files.length > 50, `${files.length} files`);
  // A maximum is the same in any order; so are flags that every thread sets to the same.
  const used = files.flatMap((name) =>
    readFileSync(join(folder, name), "utf8").match(/\batomic[A-Z]\w*|atomic<\w+>/g) ?? []
  );
  const allowed = ["atomic<u32>", "atomicMax", "atomicLoad", "atomicStore", "atomicExchange"];
  assert.deepEqual([...new Set(used)].filter((name) => !allowed.includes(name)), []);
});

Deno.test("every kernel of a step gives the same bits three times", async () => {
  for (
    const settings of [
      { mixed_precision: "no" },
      { training_type: "sft", mixed_precision: "bf16", optimizer: "came" },
    ]
  ) {
    const config = tinyConfig({ model: "tiny-2b", gradient_accumulation_steps: 1, ...settings });
    const first = await runTiny(config);
    for (let i = 0; i < 2; i++) {
      const { losses, norms, masters } = await runTiny(config);
      assert.deepEqual({ losses, norms, masters }, {
        losses: first.losses,
        norms: first.norms,
        masters: first.masters,
      });
    }
  }
});

/** The smallest normal f32: what is nearer to 0 may be taken for 0, by WGSL's rules. */
const SMALLEST = 2 ** -126;

Deno.test("numbers below the smallest normal one, kept or flushed, are off by no more than that each", async () => {
  const size = 64;
  const tiny = Float32Array.from({ length: size }, (_, i) => (i % 2 === 0 ? 1 : -1) * 1e-40 * (i + 1));
  for (const target of await targets()) {
    const [, partials] = await runLaunch(sumOfSquares(target, { x: "f32" }, { elements: size, slot: 0 }), [
      tiny,
      4 * squareSlots(size),
    ]);
    for (const sum of partials!) assert.ok(sum >= 0 && sum <= size * SMALLEST, `${sum}`);
  }
  const betas = { beta1: 0.9, beta2: 0.999 };
  const shape = { elements: size, ...betas, eps: 1e-8, weightDecay: 0 };
  const parameters = numbers(size, 1);
  const spec = { kind: "adamw", gradients: "f32", copy: "none" } as const;
  const runs = await everyVariant(adamFamily, spec, shape, {
    parameters,
    gradients: tiny,
    moment1: new Float32Array(size),
    moment2: new Float32Array(size),
    state: adamState({ learningRate: 1e-3, ...betas, step: 1, lossScale: 1 }),
    control: Float32Array.of(0, 1, 0, 0),
  });
  for (const { results } of runs) {
    // m / (sqrt(v) + eps) of such a gradient is below 1e-30: no weight moves by a bit.
    assert.deepEqual(results.parameters, parameters);
    results.moment1!.forEach((m, i) => assert.ok(Math.abs(m - 0.1 * tiny[i]!) <= SMALLEST, `${m}`));
    assert.deepEqual(results.moment2, new Float32Array(size));
    assert.equal(results.control![3], 0);
  }
});
