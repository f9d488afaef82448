/** Which pictures of a file are its clip: the first real video stream, with pixels of any shape and any kind of colour. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkDataset } from "../../../lib/data/samples/dataset_check.ts";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeFrames, encodeVideo } from "../../../lib/data/video/video.ts";
import { ffmpeg, greySteps, range, stretch, withFolder } from "../media.ts";

/** A clip whose frame i has the level 8 i. */
async function makeSteps(path: string, frames: number): Promise<void> {
  await encodeVideo(path, { data: greySteps(frames, 32, 16), frames, width: 32, height: 16 }, { fps: 8, crf: 4 });
}

async function levelsOf(path: string, frames: number): Promise<number[]> {
  const { data } = await decodeFrames(path, range(frames), { geometry: stretch(8, 8) });
  const size = data.length / frames;
  return range(frames).map((i) => data.subarray(i * size, (i + 1) * size).reduce((sum, x) => sum + x, 0) / size);
}

async function assertSteps(path: string, frames: number): Promise<void> {
  (await levelsOf(path, frames)).forEach((level, i) =>
    assert.ok(Math.abs(level - 8 * i) < 3, `${path}: ${level} at ${i}`)
  );
}

Deno.test("a cover picture is no clip, and of several video streams the first is taken", () =>
  withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeSteps(at("steps.mp4"), 10);
    await ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", at("cover.png"));
    await ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:r=8", "-frames:v", "20", "-pix_fmt", "yuv420p", at("red.mp4"));
    const join2 = ["-map", "0", "-map", "1", "-c", "copy"];
    await ffmpeg(
      "-i",
      at("cover.png"),
      "-i",
      at("steps.mp4"),
      ...join2,
      "-disposition:v:0",
      "attached_pic",
      at("covered.mp4"),
    );
    await ffmpeg("-i", at("steps.mp4"), "-i", at("red.mp4"), ...join2, at("two.mp4"));
    for (const name of ["covered.mp4", "two.mp4"]) {
      const { width, height, frames } = await probe(at(name));
      assert.deepEqual([width, height, frames], [32, 16, 10], name);
      await assertSteps(at(name), 10);
    }
    // Sound with a cover, as music has it.
    const sound = ["-f", "lavfi", "-i", "sine=d=0.5", "-map", "0", "-map", "1", "-c:v", "copy"];
    await ffmpeg("-i", at("cover.png"), ...sound, "-disposition:v:0", "attached_pic", at("song.mp4"));
    await assert.rejects(
      probe(at("song.mp4"), "song.mp4"),
      /^UserError: song\.mp4: has no video stream \(only sound or data\)/,
    );
  }));

Deno.test("pixels that are not square are counted by their shape, and grey pictures are grey", () =>
  withFolder(async (folder) => {
    const wide = join(folder, "wide.mp4"), grey = join(folder, "grey.mkv");
    // Black, with the middle third white: of the 64 columns of a 4:3 picture that is shown twice as wide.
    const bar = "color=black:s=64x96:r=8,drawbox=x=24:w=16:h=96:color=white:t=fill,setsar=2";
    await ffmpeg("-f", "lavfi", "-i", bar, "-frames:v", "3", "-crf", "4", "-pix_fmt", "yuv444p", wide);
    const info = await probe(wide);
    assert.deepEqual([info.width, info.height, info.pixelAspect], [64, 96, 2]);
    // Shown as 128x96: its middle 96 columns are the square, whose 32 in the middle are white.
    const geometry = fitGeometry(info, { width: 48, height: 48 });
    const { data } = await decodeFrames(wide, [0], { geometry });
    const red = (x: number) => data[3 * (24 * 48 + x)]!;
    for (const x of [2, 13, 34, 45]) assert.ok(red(x) < 40, `${x}: ${red(x)}`);
    for (const x of [18, 24, 29]) assert.ok(red(x) > 215, `${x}: ${red(x)}`);

    await makeSteps(join(folder, "steps.mp4"), 6);
    await ffmpeg("-i", join(folder, "steps.mp4"), "-vf", "format=gray", "-c:v", "ffv1", grey);
    assert.equal((await probe(grey)).pixelFormat, "gray");
    await assertSteps(grey, 6);
  }));

Deno.test("a picture named like a clip is told to be one", () =>
  withFolder(async (folder) => {
    await makeSteps(join(folder, "a.mp4"), 12);
    for (const [name, kind] of [["b.mp4", "png"], ["c.mp4", "mjpeg"]] as const) {
      await ffmpeg(
        "-i",
        join(folder, "a.mp4"),
        "-frames:v",
        "1",
        "-c:v",
        kind,
        "-f",
        "image2",
        "-update",
        "1",
        join(folder, name),
      );
    }
    const options = { frames: 9, fps: 8, size: { width: 32, height: 16 }, tokens: 226, prompt: "p" };
    const { problems } = await checkDataset(folder, options);
    assert.deepEqual(problems, ["b", "c"].map((name) => `${name}.mp4: is a picture, expected a clip of 9 frames`));
  }));
