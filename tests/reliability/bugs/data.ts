/** Clips, captions, the cache, and what a micro-batch is made of. */
import type { Bugs } from "./bug.ts";

const cache = "tests/data/cache/cache_test.ts tests/data/cache/collect_test.ts";
const changes = "tests/train/data/cache_changes_test.ts";
const sampler = "tests/data/random/sampler_test.ts";
const batches = "tests/train/data/batches_test.ts";
const noising = "tests/train/data/noising_test.ts";

/** Bugs of `lib/data` and `lib/train/data`. */
export const dataBugs: Bugs = {
  "content of cache entries not compared": {
    file: "lib/data/cache/cache.ts",
    from: 'if (payloadHash(tensor) !== metadata.get("sha256"))',
    to: "if (payloadHash(tensor) === undefined)",
    tests: cache,
  },
  "NaN stored in the cache": {
    file: "lib/data/cache/cache.ts",
    from: "if (bad >= 0) {",
    to: "if (bad >= data.length) {",
    tests: cache,
  },
  "names of entries without the kind": {
    file: "lib/data/cache/key.ts",
    from: "[CACHE_VERSION, request.kind, fields]",
    to: "[CACHE_VERSION, fields]",
    tests: cache,
  },
  "names of entries without the VAE": {
    file: "lib/train/data/prepare_data.ts",
    from: "vae: await hashes.files(model.vaeFiles), ",
    to: "",
    tests: changes,
  },
  "names of entries without the token limit": {
    file: "lib/train/data/prepare_data.ts",
    from: "      tokens: model.transformer.max_text_seq_length,\n",
    to: "",
    tests: changes,
  },
  "names of entries without the frames": {
    file: "lib/data/cache/key.ts",
    from: '    frames: source.indices.join(","),\n',
    to: "",
    tests: changes,
  },
  "entries that are in use collected": {
    file: "lib/data/cache/collect.ts",
    from: ".filter(({ key }) => !used.has(key))",
    to: "",
    tests: cache,
  },
  "newest entries collected first": {
    file: "lib/data/cache/collect.ts",
    from: "a.lastUse - b.lastUse",
    to: "b.lastUse - a.lastUse",
    tests: cache,
  },
  "files of runs at work removed": {
    file: "lib/data/cache/collect.ts",
    from: "const ABANDONED_MILLISECONDS = 3_600_000;",
    to: "const ABANDONED_MILLISECONDS = -1;",
    tests: cache,
  },
  "later frame on a tie": {
    file: "lib/data/video/frames.ts",
    from: "< distance(frame) - tolerance",
    to: "<= distance(frame) + tolerance",
    tests: "tests/data/video/frames_test.ts",
  },
  "last frame shown for ever": {
    file: "lib/data/video/frames.ts",
    from: "if (k / fps >= end - 1e-9) padded++;",
    to: "if (k / fps >= end + 1) padded++;",
    tests: "tests/data/video/frames_test.ts",
  },
  "crops from the left": {
    file: "lib/data/video/geometry.ts",
    from: "x: Math.floor(Math.abs(scaled.width - target.width) / 2),",
    to: "x: 0,",
    tests: "tests/data/video/geometry_test.ts",
  },
  "pixels of other shapes taken for squares": {
    file: "lib/data/video/geometry.ts",
    from: "source.width * (source.pixelAspect ?? 1)",
    to: "source.width",
    tests: "tests/data/video/geometry_test.ts",
  },
  "turned clips keep their size": {
    file: "lib/data/video/probe.ts",
    from: "const sideways = rotation % 180 === 90;",
    to: "const sideways = rotation === 90;",
    tests: "tests/data/video/video_test.ts tests/data/video/corpus_test.ts",
  },
  "HDR taken for a screen's range": {
    file: "lib/data/video/probe.ts",
    from: '["smpte2084", "arib-std-b67"]',
    to: '["smpte2084"]',
    tests: "tests/data/video/colour_test.ts",
  },
  "pixels from 0 to 1": {
    file: "lib/data/video/normalise.ts",
    from: "Math.fround(Math.fround(x / 255) * 2) - 1",
    to: "Math.fround(x / 255)",
    tests: "tests/data/video/normalise_test.ts",
  },
  "halves of pixels away from zero": {
    file: "lib/data/video/normalise.ts",
    from: "rounded[3 * i + channel] = Math.fround(unit * 255);",
    to: "rounded[3 * i + channel] = Math.floor(Math.fround(unit * 255) + 0.5);",
    tests: "tests/data/video/normalise_test.ts",
  },
  "Lanczos of two lobes": {
    file: "lib/data/video/resize.ts",
    from: "{ support: 3, at: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) }",
    to: "{ support: 2, at: (x) => (Math.abs(x) < 2 ? sinc(x) * sinc(x / 2) : 0) }",
    tests: "tests/data/video/resize_test.ts",
  },
  "longest pieces not tried": {
    file: "lib/data/text/unigram.ts",
    from: "end - start <= this.#longest",
    to: "end - start < this.#longest",
    tests: "tests/data/text/tokenizer_test.ts",
  },
  "end token cut off": {
    file: "lib/data/text/tokenizer.ts",
    from: "this.tokenize(text).slice(0, length - 1)",
    to: "this.tokenize(text).slice(0, length)",
    tests: "tests/data/text/tokenizer_test.ts",
  },
  "datasets may lead out of their folder": {
    file: "lib/data/dataset/paths.ts",
    from: 'return inside.startsWith("..") || isAbsolute(inside);',
    to: "return isAbsolute(inside);",
    tests: "tests/data/dataset/dataset_test.ts",
  },
  "symbolic links may lead out": {
    file: "lib/data/dataset/paths.ts",
    from: "isOutside(await Deno.realPath(root), real)",
    to: "isOutside(await Deno.realPath(root), path)",
    tests: "tests/data/dataset/dataset_test.ts tests/bad_input/dataset_test.ts",
  },
  "SimpleTuner's repeats without the first time": {
    file: "lib/data/dataset/collection.ts",
    from: '(typeof repeats === "number" ? repeats : 0) + 1',
    to: '(typeof repeats === "number" ? repeats : 1)',
    tests: "tests/data/dataset/formats_test.ts",
  },
  "weights of datasets per clip": {
    file: "lib/data/dataset/collection.ts",
    from: "samples.length / weight));",
    to: "samples.length));",
    tests: "tests/data/dataset/formats_test.ts",
  },
  "buckets by their length alone": {
    file: "lib/data/samples/buckets.ts",
    from: "return Math.min(ratio, 1 / ratio);",
    to: "return 1;",
    tests: "tests/data/samples/buckets_test.ts",
  },
  "Philox of nine rounds": {
    file: "lib/data/random/philox.ts",
    from: "round < 10",
    to: "round < 9",
    tests: "tests/data/random/random_test.ts",
  },
  "small integers favoured": {
    file: "lib/data/random/random.ts",
    from: "2 ** 32 - (2 ** 32 % n)",
    to: "2 ** 32",
    tests: "tests/data/random/random_test.ts",
  },
  "every epoch in the order of the first": {
    file: "lib/data/random/sampler.ts",
    from: "permutation(seed, epoch, samples)",
    to: "permutation(seed, 0, samples)",
    tests: sampler,
  },
  "every epoch with the noise of the first": {
    file: "lib/data/random/sampler.ts",
    from: "globalIndex: epoch * samples + first + i",
    to: "globalIndex: first + i",
    tests: sampler,
  },
  "last window of an epoch not applied": {
    file: "lib/data/random/sampler.ts",
    from: " || inEpoch === microStepsPerEpoch - 1",
    to: "",
    tests: sampler,
  },
  "resumes behind the partial window": {
    file: "lib/data/random/sampler.ts",
    from: "return epoch * microStepsPerEpoch + (step % stepsPerEpoch) * accumulation;",
    to: "return step * accumulation + 0 * epoch;",
    tests: sampler,
  },
  "cumulative alpha of the timestep before": {
    file: "lib/train/data/batches.ts",
    from: "alphas: timesteps.map((t) => alphas[t]!),",
    to: "alphas: timesteps.map((t) => alphas[Math.max(0, t - 1)]!),",
    tests: batches,
  },
  "latents not scaled": {
    file: "lib/train/data/batches.ts",
    from: 'normals("posterior", posterior.data.length / 2), vae.scaling_factor, pad)',
    to: 'normals("posterior", posterior.data.length / 2), 1, pad)',
    tests: batches,
  },
  "image latents always scaled as in training": {
    file: "lib/train/data/batches.ts",
    from: 'image_scale === "pipeline" && vae.invert_scale_latents ? 1 / vae.scaling_factor :',
    to: 'image_scale === "none" ? 1 / vae.scaling_factor :',
    tests: batches,
  },
  "variance taken for deviation": {
    file: "lib/train/data/batches.ts",
    from: "Math.exp(0.5 * data[half + from + i]!)",
    to: "Math.exp(data[half + from + i]!)",
    tests: batches,
  },
  "frames in front of the video stay zero": {
    file: "lib/train/data/batches.ts",
    from: "    out.copyWithin(f * channels * plane, pad * channels * plane, (pad + 1) * channels * plane);\n",
    to: "",
    tests: batches,
  },
  "samples that fill up a batch count": {
    file: "lib/train/data/batches.ts",
    from: "b < items.length ? lossWeight(config, alphas[t]!) / items.length : 0",
    to: "lossWeight(config, alphas[t]!) / items.length",
    tests: batches,
  },
  "partial batches divided by the batch size": {
    file: "lib/train/data/batches.ts",
    from: "lossWeight(config, alphas[t]!) / items.length : 0",
    to: "lossWeight(config, alphas[t]!) / config.batch_size : 0",
    tests: batches,
  },
  "dropout of a batch repeated in the next": {
    file: "lib/train/data/batches.ts",
    from: "draws: Uint32Array.of(config.seed, items[0]!.globalIndex, 0, 0)",
    to: "draws: Uint32Array.of(config.seed, items[0]!.index, 0, 0)",
    tests: batches,
  },
  "image condition never dropped": {
    file: "lib/train/data/batches.ts",
    from: "uniform() < config.condition_dropout) return condition;",
    to: "uniform() < 0) return condition;",
    tests: batches,
  },
  "images of a batch noised alike for each sample": {
    file: "lib/train/data/batches.ts",
    from: 'config.image_noise === "per_batch" ? items[0]!.globalIndex : item.globalIndex',
    to: "item.globalIndex",
    tests: batches,
  },
  "captions never dropped": {
    file: "lib/train/data/batches.ts",
    from: "dropsCaption(config, item.globalIndex) ? source.emptyPrompt! : sample.prompt",
    to: "sample.prompt",
    tests: batches,
  },
  "last timestep never drawn": {
    file: "lib/train/data/noising.ts",
    from: "const span = last - first + 1;",
    to: "const span = last - first;",
    tests: noising,
  },
  "noise offset of all channels alike": {
    file: "lib/train/data/noising.ts",
    from: "shifts[Math.floor(i / plane) % channels]!",
    to: "shifts[0]!",
    tests: noising,
    filter: "noise offset",
  },
  "min-SNR of the velocity as of the latents": {
    file: "lib/train/data/noising.ts",
    from: "Math.min(alpha, snr_gamma * (1 - alpha))",
    to: "Math.min(alpha / (1 - alpha), snr_gamma)",
    tests: noising,
  },
  "batches made ahead taken for others": {
    file: "lib/train/data/batch_maker.ts",
    from: "return ahead?.number === micro.number ? ahead.batch",
    to: "return ahead !== undefined ? ahead.batch",
    tests: "tests/train/data/batch_maker_test.ts",
  },
  "noise of images alike for all": {
    file: "lib/train/data/fill_cache.ts",
    from: 'stream("imageNoise", sample)',
    to: 'stream("imageNoise", 0)',
    tests: "tests/train/data/fill_cache_test.ts",
    filter: "exp(-3",
  },
  "strength of image noise without its mean": {
    file: "lib/train/data/fill_cache.ts",
    from: "Math.exp(LOG_SIGMA.mean + LOG_SIGMA.deviation * normal!)",
    to: "Math.exp(LOG_SIGMA.deviation * normal!)",
    tests: "tests/train/data/fill_cache_test.ts",
    filter: "exp(-3",
  },
};
