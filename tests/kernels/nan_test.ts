/** Whatever bits a NaN has, it is one in bf16 too, or no check would find it. */
import assert from "node:assert/strict";
import { convert } from "../../kernels/rows/flat.ts";
import { runLaunch } from "./run.ts";

/** Quiet and signalling, with one bit of the fraction at every place, of both signs. */
const PATTERNS = Array.from({ length: 23 }, (_, bit) => [0x7f800000 + 2 ** bit, 0xff800000 + 2 ** bit]).flat();

Deno.test("NaN of every pattern stays NaN in bf16, and infinity infinity", async () => {
  const words = Uint32Array.of(...PATTERNS, 0x7f800000, 0xff800000);
  const launch = convert({ x: "f32", y: "bf16" }, { elements: words.length });
  const y = (await runLaunch(launch, [words, words.length]))[1]!;
  for (const [i, pattern] of PATTERNS.entries()) assert.ok(Number.isNaN(y[i]), pattern.toString(16));
  assert.deepEqual([...y.subarray(-2)], [Infinity, -Infinity]);
});
