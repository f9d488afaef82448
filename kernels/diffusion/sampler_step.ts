/** One step of a diffusion sampler: guidance, the clean latent, and the next latent, as one linear combination. */
import { foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** Vectors per thread. */
const UNROLL = 4;

/** What a step reads besides latents and velocity. */
export interface SamplerSpec {
  /** Classifier-free guidance: a second velocity, predicted for the negative prompt. */
  readonly guided: boolean;
  /** The sampler adds noise. */
  readonly stochastic: boolean;
}

/** Words of the coefficients: signal, sigma, guidance scale, unused; latents, clean, previous, noise. */
export const SAMPLER_COEFFICIENTS = 8;

/**
 * v = negative + w (v - negative);  x0 = signal x - sigma v;  x = latents x + clean x0 + previous x0_before + noise n.
 * Buffers, all f32: latents (read and written), before (x0 of the step before, replaced by this step's), v, [negative],
 * [noise], coefficients.
 */
export function samplerStep({ guided, stochastic }: SamplerSpec, { elements }: { readonly elements: number }): Launch {
  const count = fours("latents", elements);
  const optional = [...(guided ? ["negative"] : []), ...(stochastic ? ["noise"] : [])];
  const perVector = `    let positive = load_velocity(at);
    ${guided ? "let negative = load_negative(at);" : ""}
    let v = ${guided ? "negative + k.z * (positive - negative)" : "positive"};
    let x = load_latents(at);
    let clean = k.x * x - k.y * v;
    let next = q.x * x + q.y * clean + q.z * load_before(at);
    store_latents(at, ${stochastic ? "next + q.w * load_noise(at)" : "next"});
    store_before(at, clean);`;
  return {
    kernel: buildKernel({
      name: "sampler_step",
      spec: { guided, stochastic },
      params: ["count4"],
      buffers: ["latents", "before", "velocity", ...optional, "coefficients"].map((name) => ({ name, dtype: "f32" })),
      workgroupSize: THREADS,
      body: `  let k = load_coefficients(0u);
  let q = load_coefficients(1u);
` + unroll(UNROLL, (i) =>
        `  {
    let at = wg * ${THREADS * UNROLL}u + ${i * THREADS}u + li;
    if (at < params.count4) {
${perVector}
    }
  }`),
    }),
    params: [count],
    grid: foldGrid(Math.ceil(count / (THREADS * UNROLL))),
    flops: 12 * elements,
  };
}
