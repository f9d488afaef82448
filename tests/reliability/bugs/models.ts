/** The transformer, the autoencoder, adapters and their files, the schedule, and videos from them. */
import type { Bugs } from "./bug.ts";

const transformer = "tests/models/transformer/transformer_test.ts";
const vae = "tests/models/vae/vae_test.ts";
const schedule = "tests/diffusion/schedule_test.ts tests/diffusion/timesteps_test.ts";
const sample = "tests/sample/sample_test.ts";

/** Bugs of `lib/models`, `lib/diffusion` and `lib/sample`. */
export const modelBugs: Bugs = {
  "shift and scale of video exchanged": {
    file: "lib/models/transformer/graph.ts",
    from: "    shiftVideo: 0,\n    scaleVideo: 1,\n    shiftText: 3,",
    to: "    shiftVideo: 1,\n    scaleVideo: 0,\n    shiftText: 3,",
    tests: transformer,
  },
  "shift and scale of the last norm exchanged": {
    file: "lib/models/transformer/graph.ts",
    from: "    shiftText: 0,\n    scaleText: 1,\n    shiftVideo: 0,\n    scaleVideo: 1,",
    to: "    shiftText: 1,\n    scaleText: 0,\n    shiftVideo: 1,\n    scaleVideo: 0,",
    tests: transformer,
  },
  "gates of video and text exchanged": {
    file: "lib/models/transformer/graph.ts",
    from: "gateVideo: 2, gateText: 5",
    to: "gateVideo: 5, gateText: 2",
    tests: transformer,
  },
  "epsilon of query norms ten times too large": {
    file: "lib/models/transformer/graph.ts",
    from: "const HEAD_NORM_EPS = 1e-6;",
    to: "const HEAD_NORM_EPS = 1e-5;",
    tests: "tests/models/transformer/epsilons_test.ts",
  },
  "rows and columns of rotary positions exchanged": {
    file: "lib/models/transformer/positions.ts",
    from: "for (const axis of [t, i, j]) {",
    to: "for (const axis of [t, j, i]) {",
    tests: transformer,
  },
  "rows and columns of additive positions exchanged": {
    file: "lib/models/transformer/positions.ts",
    from: "for (const part of [t, j, i]) {",
    to: "for (const part of [t, i, j]) {",
    tests: transformer,
  },
  "sines of the timestep before cosines": {
    file: "lib/models/transformer/positions.ts",
    from: "    table[i] = Math.cos(angle);\n    table[half + i] = Math.sin(angle);",
    to: "    table[i] = Math.sin(angle);\n    table[half + i] = Math.cos(angle);",
    tests: transformer,
  },
  "frequencies of timesteps in f64": {
    file: "lib/models/transformer/positions.ts",
    from: "Math.fround(Math.exp(Math.fround(Math.fround(logPeriod * i) / half)))",
    to: "Math.exp(logPeriod * i / half)",
    tests: transformer,
  },
  "ofs of one": {
    file: "lib/models/transformer/inputs.ts",
    from: "const OFS = 2;",
    to: "const OFS = 1;",
    tests: `tests/step/training_step_test.ts ${sample}`,
  },
  "learned positions for other numbers of frames": {
    file: "lib/models/transformer/inputs.ts",
    from: "if (pixelFrames === config.sample_frames && learned.length === size)",
    to: "if (pixelFrames === config.sample_frames || learned.length >= size)",
    tests: "tests/models/transformer/learned_positions_test.ts",
  },
  "first chunk without the frames that fill none": {
    file: "lib/models/vae/chunks.ts",
    from: "count === 1 ? total : size * (i + 1) + rest,",
    to: "count === 1 ? total : size * (i + 1),",
    tests: vae,
  },
  "earlier frames of a chunk forgotten": {
    file: "lib/models/vae/graph.ts",
    from: 'first: kind !== "next" });',
    to: "first: true });",
    tests: vae,
  },
  "log-variance not clamped": {
    file: "lib/models/vae/vae.ts",
    from: "Math.min(20, Math.max(-30, value))",
    to: "value",
    tests: vae,
  },
  "tiles blended from the other side": {
    file: "lib/models/vae/tiling.ts",
    from: "const weight = y / extent;",
    to: "const weight = 1 - y / extent;",
    tests: vae,
  },
  "rows blended one short": {
    file: "lib/models/vae/tiling.ts",
    from: "const extent = Math.min(leftWidth, width, blend);",
    to: "const extent = Math.min(leftWidth, width, blend - 1);",
    tests: vae,
  },
  "caches of a tile kept for the next of its size": {
    file: "lib/models/vae/graph.ts",
    from: 'kind === "only" ? plan.transient("earlier frames", shape, h.dtype) : caches.get(conv, shape, h.dtype)',
    to: "caches.get(norm.replace('norm2', 'norm1'), shape, h.dtype)",
    tests: vae,
  },
  "SNR shift missing": {
    file: "lib/diffusion/schedule.ts",
    from: "alphas[i] = product / (shift + (1 - shift) * product);",
    to: "alphas[i] = product;",
    tests: schedule,
  },
  "terminal SNR not zero": {
    file: "lib/diffusion/schedule.ts",
    from: "if (config.rescale_betas_zero_snr) {",
    to: "if (config.rescale_betas_zero_snr && n < 0) {",
    tests: schedule,
  },
  "trailing timesteps one too late": {
    file: "lib/diffusion/timesteps.ts",
    from: "roundHalfEven(total - i * (total / steps)) - 1",
    to: "Math.min(total - 1, roundHalfEven(total - i * (total / steps)))",
    tests: schedule,
  },
  "DPM of first order": {
    file: "lib/diffusion/dpm.ts",
    from: "i === 0 || end < 0 ? 0 : secondOrder",
    to: "i >= 0 || end < 0 ? 0 : secondOrder",
    tests: "tests/diffusion/dpm_test.ts",
  },
  "DDIM from the latents before": {
    file: "lib/diffusion/ddim.ts",
    from: "clean: Math.sqrt(target) - Math.sqrt(a) * latents,",
    to: "clean: Math.sqrt(target),",
    tests: "tests/diffusion/ddim_test.ts",
  },
  "positions of training where pipelines crop": {
    file: "lib/sample/denoise.ts",
    from: "isVersion15(model) ? slicePositions(grid) : cropPositions(model, grid)",
    to: "slicePositions(grid)",
    tests: "tests/sample/sample_test.ts tests/sample/denoise_test.ts",
  },
  "every sampler step with the noise of the first": {
    file: "lib/sample/generate.ts",
    from: 'normals(size, request.seed, "samplerNoise", step)',
    to: 'normals(size, request.seed, "samplerNoise", 0 * step)',
    tests: "tests/sample/silent_model_test.ts",
  },
  "latents decoded as they are scaled": {
    file: "lib/sample/generate.ts",
    from: "factor: 1 / vae.config.scaling_factor,",
    to: "factor: 1,",
    tests: sample,
  },
  "padding frames of 1.5 decoded": {
    file: "lib/sample/generate.ts",
    from: "    drop: padding,\n",
    to: "    drop: 0,\n",
    tests: sample,
  },
  "image of 1.5 scaled as in 1.0": {
    file: "lib/sample/latents.ts",
    from: "invert_scale_latents ? 1 / scaling_factor : scaling_factor",
    to: "scaling_factor",
    tests: sample,
  },
  "halves of a batch exchanged": {
    file: "lib/sample/denoise.ts",
    from: "? [negative!, prompt] : [prompt];",
    to: "? [prompt, negative!] : [prompt];",
    tests: "tests/sample/denoise_test.ts",
    filter: "one run of batch 2",
  },
  "video to video from the first timestep": {
    file: "lib/diffusion/timesteps.ts",
    from: "timesteps.slice(timesteps.length - kept)",
    to: "timesteps.slice(0, kept)",
    tests: `${schedule} ${sample}`,
  },
  "guidance of 1 runs twice": {
    file: "lib/sample/generate.ts",
    from: "const off = settings.guidance <= 1;",
    to: "const off = settings.guidance < 0;",
    tests: sample,
  },
};
