/** Settings and requests that a model cannot sample: every problem is named, all at once. */
import assert from "node:assert/strict";
import type { RgbFrames } from "../../lib/data/video/video.ts";
import { UserErrors } from "../../lib/errors.ts";
import { RELEASED } from "../../lib/models/transformer/config.ts";
import {
  checkRequests,
  defaultSettings,
  describeSettings,
  type SampleRequest,
  type SampleSettings,
  settingNotes,
} from "../../lib/sample/settings.ts";

function problemsOf(
  variant: keyof typeof RELEASED,
  settings: Partial<SampleSettings>,
  ...requests: Partial<SampleRequest>[]
): readonly string[] {
  const model = RELEASED[variant];
  const asked = requests.map((request) => ({ prompt: "a dog", seed: 1, ...request }));
  try {
    checkRequests(model, { ...defaultSettings(model), ...settings }, asked);
  } catch (error) {
    assert.ok(error instanceof UserErrors && error.hint !== undefined);
    return error.problems;
  }
  return [];
}

const clip = (frames: number, width = 720, height = 480): RgbFrames => ({
  width,
  height,
  frames,
  data: new Uint8Array(0),
});

const SETTINGS: readonly (readonly [keyof typeof RELEASED, Partial<SampleSettings>, RegExp])[] = [
  ["2b", { frames: 0 }, /^frames is 0: expected an integer from 1$/],
  ["2b", { frames: 9.5 }, /^frames is 9\.5: expected an integer/],
  ["2b", { height: 8 }, /^height is 8: expected a multiple of 16$/],
  ["2b", { width: 100 }, /^width is 100: expected a multiple of 16$/],
  ["2b", { width: NaN }, /^width is NaN: expected a multiple of 16$/],
  ["2b", { steps: 0 }, /^steps is 0: expected an integer from 1 to 1000$/],
  ["2b", { steps: 1001 }, /^steps is 1001/],
  ["2b", { guidance: Infinity }, /^guidance is Infinity: expected a number$/],
  ["5b-i2v", { width: 480 }, /^the size is 480x480: the learned positions of this model fit 720x480 only$/],
];

Deno.test("settings outside what a model can do are named with what it can", () => {
  for (const [variant, settings, says] of SETTINGS) {
    const image = variant.endsWith("i2v") ? { image: clip(1) } : {};
    const problems = problemsOf(variant, settings, image);
    assert.equal(problems.length, 1, `${problems}`);
    assert.match(problems[0]!, says);
  }
  assert.equal(problemsOf("2b", { frames: 0, height: 8, steps: 0, guidance: NaN }).length, 4);
  assert.deepEqual(problemsOf("2b", {}, {}), []);
});

Deno.test("pictures and videos go to the models that take them, at the frames and strength they need", () => {
  const REQUESTS:
    readonly (readonly [keyof typeof RELEASED, Partial<SampleSettings>, Partial<SampleRequest>, RegExp])[] = [
      ["5b-i2v", {}, {}, /^video 1 \("a dog"\) has no image: this is an image-to-video model$/],
      ["5b", {}, { image: clip(1) }, /has an image: this is a text-to-video model$/],
      ["5b-i2v", {}, { image: clip(1), video: clip(49) }, /has a video: only text-to-video models start from one$/],
      ["5b", {}, { video: clip(48) }, /starts from 48 frames: expected 49$/],
      ["5b", { strength: 0 }, { video: clip(49) }, /^strength is 0: expected a number above 0, at most 1/],
      ["5b", { strength: NaN }, { video: clip(49) }, /^strength is NaN/],
      ["5b", { steps: 10, strength: 0.05 }, { video: clip(49) }, /leaves at least one of 10 steps$/],
      ["5b", { frames: 11 }, { video: clip(11) }, /needs whole latent frames, for instance 5 or 9 or 13$/],
      // 81 frames are 21 latent frames, of which CogVideoX1.5 makes pairs.
      ["1.5-5b", { frames: 81 }, { video: clip(81) }, /an even number of them, for instance 77 or 85$/],
    ];
  for (const [variant, settings, request, says] of REQUESTS) {
    const problems = problemsOf(variant, settings, request);
    assert.equal(problems.length, 1, `${says}: ${problems}`);
    assert.match(problems[0]!, says);
  }
  assert.deepEqual(problemsOf("5b", {}, { video: clip(49) }), []);
});

Deno.test("settings are told apart in words, and frames that no latent frame has are noted", () => {
  const settings = defaultSettings(RELEASED["5b"]);
  assert.match(describeSettings({ ...settings, guidance: 1 }), /no guidance/);
  assert.match(describeSettings({ ...settings, guidance: 6, dynamic: true }), /, dynamic guidance 6, /);
  assert.deepEqual(settingNotes(RELEASED["5b"], settings), []);
  // Three latent frames decode to 9 frames.
  assert.match(
    settingNotes(RELEASED["5b"], { ...settings, frames: 11 }).join(),
    /^11 frames become 3 latent frames, .* 9 f/,
  );
});
