/**
 * Flipped bits anywhere in a clip: it is refused, or all of its frames come. H.264 has no checksums, so that most flips inside
 * of coded pictures cannot be told from other pictures. Ten places in the normal suite, sixty with COGTUNE_FULL.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeFrames } from "../../../lib/data/video/video.ts";
import { random } from "../../comm/launch/chaos.ts";
import { ffmpeg, makeClip, range, stretch, withFolder } from "../media.ts";

const FRAMES = 40;
const SIZE = { width: 96, height: 64 };
const full = Deno.env.has("COGTUNE_FULL");

/** What becomes of a file whose bits are flipped one at a time. */
interface Outcomes {
  refused: number;
  /** All frames, with the pixels of the file as it was. */
  same: number;
  /** All frames, with other pixels. */
  other: number;
}

async function flipped(path: string, frames: number, places: number): Promise<Outcomes> {
  const good = await Deno.readFile(path);
  const decode = () => decodeFrames(path, range(frames), { geometry: stretch(SIZE.width, SIZE.height) });
  const expected = await decode();
  const pick = random(7);
  const outcomes = { refused: 0, same: 0, other: 0 };
  for (let i = 0; i < places; i++) {
    const bad = Uint8Array.from(good);
    bad[pick(good.length)]! ^= 1 << pick(8);
    await Deno.writeFile(path, bad);
    try {
      // A flip in the index may move frames in time, but may not take any away unnoticed.
      assert.equal((await probe(path)).frames, frames);
      const { data } = await decode();
      assert.equal(data.length, frames * SIZE.width * SIZE.height * 3);
      outcomes[data.every((value, at) => value === expected.data[at]) ? "same" : "other"]++;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      outcomes.refused++;
    }
  }
  return outcomes;
}

Deno.test("a clip with a flipped bit is refused, or gives all of its frames", () =>
  withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    await makeClip(path, `${SIZE.width}x${SIZE.height}`, 8, FRAMES);
    const { refused, same, other } = await flipped(path, FRAMES, full ? 60 : 10);
    // deno-lint-ignore no-console
    if (full) console.log(`${refused} refused, ${same} decoded as before, ${other} decoded to other pixels`);
    assert.ok(refused > 0);
  }));

Deno.test("a picture with a flipped bit is refused, as PNG has checksums", () =>
  withFolder(async (folder) => {
    const path = join(folder, "picture.png");
    await ffmpeg("-f", "lavfi", "-i", `testsrc2=s=${SIZE.width}x${SIZE.height}`, "-frames:v", "1", path);
    assert.equal((await flipped(path, 1, full ? 60 : 10)).other, 0);
  }));
