/** Clips of every kind that people have, decoded and compared with the colours and numbers that their frames are made of. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkDataset } from "../../../lib/data/samples/dataset_check.ts";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeFrames } from "../../../lib/data/video/video.ts";
import { cut, messageOf, range, withFolder } from "../media.ts";
import { distanceFrom, FRAMES, KINDS, makeKind, SIZE } from "./corpus.ts";

/** Rounding of 8-bit YUV is up to 1.6 levels of RGB; two leave room for the last rounding. */
const TOLERANCE = 2;

const encoders = new TextDecoder().decode(
  (await new Deno.Command("ffmpeg", { args: ["-hide_banner", "-encoders"], stderr: "null" }).output()).stdout,
);

/** Decodes frames at their own size. */
async function decoded(path: string, indices: readonly number[]) {
  const info = await probe(path);
  const size = { width: info.width, height: info.height };
  const { data } = await decodeFrames(path, indices, { geometry: fitGeometry(info, size) });
  const bytes = size.width * size.height * 3;
  return { info, size, frames: indices.map((_, i) => data.subarray(i * bytes, (i + 1) * bytes)) };
}

for (const kind of KINDS) {
  const { name, encoder, size = SIZE, frames = range(FRAMES), rotation = 0, times } = kind;
  Deno.test({
    name: `a clip of any kind: ${name}`,
    ignore: !new RegExp(` ${encoder} `).test(encoders),
    fn: () =>
      withFolder(async (folder) => {
        const path = await makeKind(kind, folder);
        const found = await decoded(path, range(frames.length));
        const { info } = found;
        assert.equal(info.frames, frames.length);
        const expected = rotation % 180 === 0 ? size : { width: size.height, height: size.width };
        assert.deepEqual(found.size, expected);
        frames.forEach((number, i) => {
          const worst = distanceFrom(found.frames[i]!, found.size, number, rotation);
          assert.ok(worst <= TOLERANCE, `frame ${i} is off by ${worst} from frame ${number}`);
        });
        // GIF counts hundredths of a second.
        (times ?? frames.map((_, i) => i / 8)).forEach((time, i) => {
          assert.ok(Math.abs(info.timestamps[i]! - time) < 0.011, `frame ${i} at ${info.timestamps[i]} s`);
        });
      }),
  });
}

/** Makes a clip and a copy that lacks its tail. */
async function withoutTail(name: string, folder: string): Promise<string> {
  const kind = KINDS.find((each) => each.name === name)!;
  const whole = await makeKind(kind, folder);
  const path = join(folder, `cut-${kind.file}`);
  await cut(whole, path, Math.floor((await Deno.stat(whole)).size * 0.7));
  return path;
}

Deno.test("a stream whose tail is cut off gives the frames before the cut and no others, and a file is refused", () =>
  withFolder(async (folder) => {
    const stream = await withoutTail("H.264 in a transport stream", folder);
    const { size, frames } = await decoded(stream, range(3));
    frames.forEach((frame, i) => assert.ok(distanceFrom(frame, size, i) <= TOLERANCE, `frame ${i}`));
    const all = decodeFrames(stream, range(FRAMES), { geometry: fitGeometry(SIZE, SIZE) });
    assert.match(await messageOf(all), /\d+ of 12 frames could be decoded/);
    assert.match(await messageOf(probe(await withoutTail("HEVC in 10 bits", folder))), /File ended prematurely/);
    assert.match(
      await messageOf(probe(await withoutTail("QuickTime animation with transparency", folder))),
      /moov atom/,
    );
  }));

Deno.test("data check says what interlacing and transparency come to", () =>
  withFolder(async (folder) => {
    const make = async (name: string, file: string) => {
      const kind = KINDS.find((each) => each.name.startsWith(name))!;
      await Deno.rename(await makeKind(kind, folder), join(folder, file));
    };
    await make("interlaced", "lines.mp4");
    await make("QuickTime", "alpha.mov");
    const options = { frames: 1, fps: 8, size: SIZE, tokens: 226, prompt: "p" };
    const { problems, warnings } = await checkDataset(folder, options);
    assert.deepEqual(problems, []);
    assert.deepEqual(warnings, [
      "alpha.mov: has transparency, which is left out: transparent parts show the colour that the file keeps there",
      "lines.mp4: is interlaced: the lines of the first moment of each frame are used",
    ]);
  }));
