/** The whole pipeline: prompts and pictures to frames. */
import assert from "node:assert/strict";
import { RandomStream } from "../../lib/data/random/random.ts";
import type { RgbFrames } from "../../lib/data/video/video.ts";
import { Session } from "../../lib/gpu/session.ts";
import { openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { loadTransformer } from "../../lib/sample/load_transformer.ts";
import { decodeLatents, startLatents } from "../../lib/sample/generate.ts";
import { encodePrompts, openAutoencoder } from "../../lib/sample/prepare.ts";
import { sampleOn, type SampleOptions, type SamplingEvent } from "../../lib/sample/sample.ts";
import { defaultSettings, type SampleRequest, type SampleSettings } from "../../lib/sample/settings.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { caseName, pipelineFor, referencePath } from "../reference.ts";
import { textLora } from "../models/lora/stored.ts";
import { entry, type RunConfig, storedPixels, storedRuns } from "./golden_pipeline.ts";
import { replay } from "./replay.ts";
import { LimitedSession } from "../limited_session.ts";

/** How many values of two videos differ, and by how many levels at most. */
function pixelDifference(actual: RgbFrames, expected: RgbFrames): { count: number; worst: number } {
  assert.deepEqual(
    [actual.frames, actual.height, actual.width],
    [expected.frames, expected.height, expected.width],
  );
  let count = 0, worst = 0;
  actual.data.forEach((value, i) => {
    const difference = Math.abs(value - expected.data[i]!);
    if (difference > 0) count++;
    worst = Math.max(worst, difference);
  });
  return { count, worst };
}

for (const stored of storedRuns()) {
  Deno.test(`sampling ${stored.variant} from prompt to frames equals the pipeline within one level`, async () => {
    const { device } = await testDevice();
    using session = new Session(device);
    const model = openModelFolder(stored.model);
    const runs = stored.runs.filter(({ tensors }) => tensors.includes("frames"));
    const run = stored.shared.config as unknown as RunConfig;
    const embeddings = await encodePrompts(session, model, [run.negative_prompt, run.prompt], []);
    const pair = [embeddings.get(run.negative_prompt)!, embeddings.get(run.prompt)!] as const;
    using shared = new Golden(referencePath(stored.shared.file));
    const embedded = shared.f32("prompt_embeds");
    pair.forEach((values, i) => assert.ok(relativeL2(values, entry(embedded, 2, i)) <= 1e-5));

    const results: Float32Array[] = [];
    {
      using base = await loadTransformer(session, model);
      for (const run of runs) {
        const { latents } = await replay(base, stored, run, { embeddings: pair });
        results.push(latents.at(-1)!);
      }
    }
    const { num_frames: frames, height, width } = run;
    const settings = { ...defaultSettings(model.transformer), frames, height, width };
    using vae = openAutoencoder(session, model, settings);
    for (const [i, run] of runs.entries()) {
      const video = await decodeLatents(vae, model, results[i]!, settings);
      const { count, worst } = pixelDifference(video, storedPixels(referencePath(run.file), "frames"));
      const message = `${caseName(run)}: ${count} values differ, by up to ${worst}`;
      assert.ok(worst <= 1 && count <= video.data.length / 1000, message);
    }
  });
}

/** A picture or video of coloured gradients. */
function drawn(frames: number, width: number, height: number): RgbFrames {
  const data = Uint8Array.from({ length: frames * width * height * 3 }, (_, i) => (i * 7 + (i >> 6)) & 255);
  return { data, frames, width, height };
}

/** Small and quick: two steps of nine frames. */
function quick(model: ReturnType<typeof openModelFolder>, changes: Partial<SampleSettings> = {}): SampleSettings {
  const { use_learned_positional_embeddings: fixed, sample_height, sample_width } = model.transformer;
  const size = fixed ? { height: 8 * sample_height, width: 8 * sample_width } : { height: 32, width: 48 };
  return { ...defaultSettings(model.transformer), frames: 9, ...size, steps: 2, dtype: "f32", ...changes };
}

/** Runs the pipeline to its end. */
async function sampled(
  session: Session,
  model: ReturnType<typeof openModelFolder>,
  requests: readonly SampleRequest[],
  options: SampleOptions,
): Promise<{ events: SamplingEvent[]; videos: RgbFrames[] }> {
  const events: SamplingEvent[] = [];
  const videos: RgbFrames[] = [];
  for await (const event of sampleOn(session, model, requests, options)) {
    events.push(event);
    if (event.type === "video") videos[event.index] = event.video;
  }
  return { events, videos };
}

Deno.test("a video depends on its request alone, and sampling leaves the device empty", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const model = openModelFolder(pipelineFor("5b"));
  const settings = quick(model);
  const first: SampleRequest = { prompt: "a red kite", seed: 7 };
  const others: SampleRequest[] = [
    { prompt: "a red kite", seed: 8 },
    { prompt: "a blue boat", seed: 7 },
    { prompt: "a red kite", negative: "clouds", seed: 7 },
    { prompt: "four", seed: 1 },
  ];
  const { videos: alone } = await sampled(session, model, [first], { settings });
  const { events, videos } = await sampled(session, model, [...others, first], { settings });
  assert.equal(session.allocatedBytes, 0);
  assert.deepEqual(videos[4]!.data, alone[0]!.data);
  for (let i = 0; i < 3; i++) assert.ok(pixelDifference(videos[i]!, alone[0]!).count > 1000, `${i}`);
  assert.deepEqual([alone[0]!.frames, alone[0]!.height, alone[0]!.width], [9, 32, 48]);
  assert.deepEqual(events.filter(({ type }) => type === "step" || type === "video").length, 5 * 2 + 5);
  // Five videos are two loadings of the transformer.
  assert.deepEqual(
    events.flatMap((event) => event.type === "phase" ? [event.phase] : []),
    ["encode", "load", "decode", "load", "decode"],
  );
});

Deno.test("streamed weights change no bit and need less memory", async () => {
  const { device } = await testDevice();
  const { plain: path, model: folder } = textLora();
  const model = openModelFolder(folder);
  const results: { video: RgbFrames; peak: number }[] = [];
  for (const streamed of [false, true]) {
    using session = new LimitedSession(device);
    const settings = quick(model, { streamed, height: 16, width: 16, frames: 1 });
    const requests = [{ prompt: "", seed: 5 }];
    const { videos } = await sampled(session, model, requests, { settings, loras: [{ path, strength: 1 }] });
    results.push({ video: videos[0]!, peak: session.peakBytes });
    assert.equal(session.allocatedBytes, 0);
  }
  assert.deepEqual(results[0]!.video.data, results[1]!.video.data);
  assert.ok(results[1]!.peak < results[0]!.peak, `${results.map(({ peak }) => peak)}`);
});

Deno.test(
  "an even number of latent frames decodes to more frames than asked for, and a note says so",
  async () => {
    const { device } = await testDevice();
    using session = new Session(device);
    const model = openModelFolder(pipelineFor("2b"));
    const settings = quick(model, { frames: 5, guidance: 1, steps: 1 });
    const { events, videos } = await sampled(session, model, [{ prompt: "p", seed: 0 }], { settings });
    assert.equal(videos[0]!.frames, 8);
    const notes = events.flatMap((event) => event.type === "note" ? [event.message] : []);
    assert.deepEqual(notes, ["5 frames become 2 latent frames, which decode to 8 frames, as in diffusers"]);
  },
);

Deno.test("image to video keeps to its picture, whatever the picture's size", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const model = openModelFolder(pipelineFor("1.5-5b-i2v"));
  const settings = quick(model, { sampler: "ddim" });
  const base = { prompt: "waves", seed: 3 };
  const { videos } = await sampled(session, model, [
    { ...base, image: drawn(1, 61, 40) },
    { ...base, image: drawn(1, 48, 32) },
  ], { settings });
  // Nine frames are three latent frames; the one that pads them to pairs is dropped.
  assert.deepEqual(videos.map(({ frames, height, width }) => [frames, height, width]), [[9, 32, 48], [9, 32, 48]]);
  assert.ok(pixelDifference(videos[0]!, videos[1]!).count > 1000);
});

Deno.test("video to video takes part of the steps and starts from the video", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const model = openModelFolder(pipelineFor("2b"));
  const settings = quick(model, { steps: 4, strength: 0.5, guidance: 1 });
  const video = drawn(9, 50, 30);
  const { events, videos } = await sampled(session, model, [{ prompt: "sand", seed: 3, video }], { settings });
  assert.equal(events.filter(({ type }) => type === "step").length, 2);
  const { videos: fromNoise } = await sampled(session, model, [{ prompt: "sand", seed: 3 }], { settings });
  assert.equal(videos[0]!.frames, 9);
  assert.ok(pixelDifference(videos[0]!, fromNoise[0]!).count > 1000);
});

Deno.test("video to video starts at sqrt(a) z + sqrt(1 - a) noise with the noise of its seed", () => {
  const request = { prompt: "", seed: 11 };
  const noise = new RandomStream({ seed: 11, purpose: "initialLatents", step: 0, sample: 0 })
    .fillNormals(new Float32Array(64));
  const start = Float32Array.from({ length: 64 }, (_, i) => i / 10);
  const expected = Array.from(noise, (n, i) => 0.8 * start[i]! + 0.6 * n);
  assert.ok(relativeL2(startLatents({ request, start }, 64, 0.64), expected) < 1e-7);
  assert.deepEqual(startLatents({ request, start: undefined }, 64, 0.64), noise);
});

Deno.test(
  "requests that the model cannot serve are refused together, before anything is loaded",
  async () => {
    const { device } = await testDevice();
    using session = new LimitedSession(device);
    const refused = async (variant: string, requests: SampleRequest[], changes: Partial<SampleSettings>) => {
      const model = openModelFolder(pipelineFor(variant));
      const error = await sampled(session, model, requests, { settings: quick(model, changes) }).then(
        () => assert.fail("was accepted"),
        (error: Error) => error,
      );
      assert.equal(session.peakBytes, 0);
      return error.message;
    };
    const prompt = { prompt: "p", seed: 0 };
    const many = await refused("5b", [{ ...prompt, image: drawn(1, 8, 8) }, { ...prompt, video: drawn(8, 8, 8) }], {
      height: 40,
      steps: 0,
      strength: 2,
    });
    for (const part of [/height is 40/, /steps is 0/, /strength is 2/, /has an image/, /8 frames: expected 9/]) {
      assert.match(many, part);
    }
    const { sample_width, sample_height } = openModelFolder(pipelineFor("5b-i2v")).transformer;
    const height = 8 * sample_height + 16;
    assert.match(
      await refused("5b-i2v", [prompt], { height }),
      new RegExp(`size is ${8 * sample_width}x${height}: the learned positions[^]*has no image`),
    );
    const odd = await refused("1.5-5b", [{ ...prompt, video: drawn(9, 8, 8) }], {});
    assert.match(odd, /frames is 9: .* an even number of them, for instance 5 or 13$/m);
  },
);
