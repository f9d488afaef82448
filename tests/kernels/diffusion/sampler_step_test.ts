import assert from "node:assert/strict";
import { samplerStep } from "../../../kernels/diffusion/sampler_step.ts";
import { numbers, relativeL2, runLaunch } from "../run.ts";

/** Leaves the last workgroup partly idle. */
const SIZE = 4100;

Deno.test("a sampler step is its linear combination, in place", async () => {
  const [x, before, v, negative, noise] = [1, 2, 3, 4, 5].map((seed) => numbers(SIZE, seed));
  const coefficients = Float32Array.of(0.6, 0.8, 6, 0, 0.45, 1.4, -0.35, 0.7);
  const [signal, sigma, w, , latents, clean, previous, added] = coefficients;
  for (const guided of [false, true]) {
    for (const stochastic of [false, true]) {
      const contents = [x!, before!, v!, ...(guided ? [negative!] : []), ...(stochastic ? [noise!] : []), coefficients];
      const launch = samplerStep({ guided, stochastic }, { elements: SIZE });
      const [next, cleanOut] = await runLaunch(launch, contents);
      const expectedClean = Float64Array.from(x!, (value, i) => {
        const velocity = guided ? negative![i]! + w! * (v![i]! - negative![i]!) : v![i]!;
        return signal! * value - sigma! * velocity;
      });
      const expected = expectedClean.map((value, i) =>
        latents! * x![i]! + clean! * value + previous! * before![i]! + (stochastic ? added! * noise![i]! : 0)
      );
      assert.ok(relativeL2(cleanOut!, expectedClean) < 2e-7);
      assert.ok(relativeL2(next!, expected) < 2e-7);
    }
  }
});
