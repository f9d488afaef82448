/** Strength of classifier-free guidance per step (Ho and Salimans 2022, arXiv:2207.12598). */

/**
 * How guidance runs: not at all, as two runs of batch 1, or as one run of batch 2, which needs twice the activations.
 */
export type GuidanceMode = "off" | "sequential" | "batched";

/**
 * The scale of every step: constant, or raised along the cosine of the diffusers pipelines,
 * 1 + g (1 - cos(pi ((N - t) / N)^5)) / 2.
 *
 * t there is the training timestep (0 to 999) although the formula was made for a step counter, so that the scale jumps
 * between 1 and 1 + g in most of the run; this is reproduced because models are compared under it.
 */
export function guidanceScales(
  timesteps: readonly number[],
  { guidance, dynamic }: { readonly guidance: number; readonly dynamic: boolean },
): number[] {
  const n = timesteps.length;
  return timesteps.map((t) =>
    dynamic ? 1 + guidance * ((1 - Math.cos(Math.PI * fifthPower((n - t) / n))) / 2) : guidance
  );
}

/**
 * x^5 rounded once. The cosine takes arguments up to 1e12, where the last bit of the power moves its result by 1e-4,
 * and ECMAScript leaves that bit of `**` open.
 */
function fifthPower(x: number): number {
  if (x === 0) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(x))) - 52;
  const mantissa = BigInt(x / 2 ** exponent);
  return Number(mantissa ** 5n) * 2 ** (5 * exponent);
}
