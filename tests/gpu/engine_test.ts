/** Which engine is taken, and why. */
import assert from "node:assert/strict";
import metadata from "../../deno.json" with { type: "json" };
import type { OpenAdapter } from "../../lib/gpu/adapter.ts";
import { installDawn } from "../../lib/gpu/dawn.ts";
import type { Engine } from "../../lib/gpu/dialect.ts";
import { describeEngines, type Engines, openEngine } from "../../lib/gpu/engine.ts";
import type { MatrixShape } from "../../kernels/core/kernel.ts";

const SHAPE: MatrixShape = { component: "f16", result: "f32", m: 16, n: 8, k: 4 };

/** Engines that show these matrix shapes; undefined stands for no adapter, an Error is thrown. */
function fakeEngines(shapes: Partial<Record<Engine, MatrixShape[] | Error>>, isDawnInstalled = true): Engines {
  return {
    isDawnInstalled: () => isDawnInstalled,
    open: (engine) => {
      const matrix = shapes[engine];
      if (matrix instanceof Error) return Promise.reject(matrix);
      const opened = { dialect: { engine }, report: { engine, matrix } } as unknown as OpenAdapter;
      return Promise.resolve(matrix === undefined ? undefined : opened);
    },
  };
}

const cases: [Parameters<typeof fakeEngines>, Engine, RegExp][] = [
  [[{ deno: [], dawn: [SHAPE] }], "dawn", /^engine dawn: .*matrix units \(f16 to f32 16x8x4\)$/],
  [[{ deno: [], dawn: [SHAPE] }, false], "deno", /^engine deno: Dawn.* not installed \(deno add npm:webgpu@/],
  [[{ deno: [], dawn: [] }], "deno", /^engine deno: Dawn finds no matrix units/],
  [[{ deno: [] }], "deno", /^engine deno: Dawn finds no adapter/],
  [[{ deno: [], dawn: new Error("no glibc") }], "deno", /^engine deno: no glibc$/],
];

Deno.test("auto takes Dawn only where it is installed and shows matrix units, and says why", async () => {
  for (const [engines, engine, reason] of cases) {
    const chosen = await openEngine("auto", fakeEngines(...engines));
    assert.equal(chosen.report.engine, engine);
    assert.match(chosen.reason, reason);
  }
});

Deno.test("a named engine is taken, or its lack is reported", async () => {
  const engines = fakeEngines({ deno: [], dawn: [SHAPE] }, false);
  assert.equal((await openEngine("deno", engines)).reason, "engine deno: as set");
  assert.equal((await openEngine("dawn", engines)).report.engine, "dawn");
  await assert.rejects(openEngine("dawn", fakeEngines({ deno: [] })), /by engine dawn.*Dawn needs Mesa 25/s);
  await assert.rejects(openEngine("auto", fakeEngines({})), /by engine deno.*mesa-vulkan-drivers/s);
});

Deno.test({
  name: "nobody downloads Dawn unasked: it is no dependency until it is added",
  // tests/dawn/mesa26.sh adds it to the copy that it runs in.
  ignore: Deno.env.get("COGTUNE_DAWN") === "added",
  fn: () => assert.ok(!("webgpu" in metadata.imports), `deno.json names webgpu; what adds it is \`${installDawn}\``),
});

Deno.test("both engines are described, also when one fails", async () => {
  const [own, dawn] = await describeEngines(fakeEngines({ deno: new Error("lost"), dawn: [SHAPE] }));
  assert.deepEqual(own, { engine: "deno", problem: "lost" });
  assert.deepEqual(dawn!.adapter!.matrix, [SHAPE]);
  assert.equal((await describeEngines(fakeEngines({ deno: [] }, false)))[1]!.problem, "not installed");
});
