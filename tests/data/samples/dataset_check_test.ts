import assert from "node:assert/strict";
import { join } from "node:path";
import { checkDataset } from "../../../lib/data/samples/dataset_check.ts";
import { fromFileUrl } from "../../paths.ts";
import { clips } from "../../../examples/make_clips.ts";
import { cut, ffmpeg, makeClip, withFolder } from "../media.ts";

const training = { frames: 17, fps: 8, size: { width: 160, height: 96 }, tokens: 226 };

Deno.test("checkDataset() finds nothing wrong with the example clips, which are small and move", async () => {
  const folder = fromFileUrl("../../../examples/clips", import.meta.url);
  const { problems, warnings, statistics } = await checkDataset(folder, training);
  assert.deepEqual([problems, warnings], [[], []]);
  assert.deepEqual(statistics.resolutions, { "160x96": 4 });
  assert.deepEqual(statistics.frameRates, { "8": 4 });
  assert.deepEqual(statistics.frameCounts, { "17": 4 });
  for (const clip of statistics.clips) {
    assert.deepEqual(clip.indices, Array.from({ length: 17 }, (_, i) => i));
    assert.ok(clip.motion > 3, `${clip.name} ${clip.motion}`);
    assert.ok((await Deno.stat(join(folder, clip.name))).size < 60_000);
  }
  const prompts = (await Deno.readTextFile(join(folder, "prompts.txt"))).trimEnd().split("\n");
  assert.deepEqual(prompts, clips.map((clip) => clip.prompt));
});

Deno.test("checkDataset() returns every problem and warning of every clip in one pass", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeClip(at("good.mp4"), "160x96", 8, 20);
    await makeClip(at("short.mp4"), "160x96", 8, 10);
    await makeClip(at("tall.mp4"), "96x160", 8, 20);
    await makeClip(at("small.mp4"), "80x48", 8, 20);
    await cut(at("good.mp4"), at("cut.mp4"), Math.floor((await Deno.stat(at("good.mp4"))).size / 2));
    await Deno.writeTextFile(at("text.mp4"), "not a video\n");
    await ffmpeg(
      "-f",
      "lavfi",
      "-i",
      "color=red:s=160x96:r=8",
      "-frames:v",
      "20",
      "-pix_fmt",
      "yuv420p",
      at("still.mp4"),
    );
    const names = ["good", "short", "tall", "small", "cut", "text", "still", "missing"].map((name) => `${name}.mp4`);
    await Deno.writeTextFile(at("videos.txt"), names.join("\n"));
    await Deno.writeTextFile(at("prompts.txt"), names.map((_, i) => "word ".repeat(i + 1)).join("\n"));
    const { problems, warnings, statistics } = await checkDataset(folder, { ...training, tokens: 6 });
    assert.equal(problems.length, 3, problems.join("\n"));
    assert.match(problems[0]!, /^videos\.txt line 8: "missing\.mp4" does not exist/);
    assert.match(problems[1]!, /^cut\.mp4: is cut short: promises 20 frames but holds \d+/);
    assert.match(problems[2]!, /^text\.mp4: is a text file/);
    const expected = [
      /^short\.mp4: lasts 1\.25 s, 17 frames at 8 fps need 2\.13 s: the last frame is repeated 7 times/,
      /^tall\.mp4: is 96x160: cropping to 160x96 cuts 64 % of the picture away/,
      /^tall\.mp4: is 96x160: enlarged 1\.7 times/,
      /^small\.mp4: is 80x48: enlarged 2\.0 times/,
      /^still\.mp4: hardly moves/,
      /^text\.mp4: the prompt has at least 7 tokens, of which 6 are read; cut off: "word"/,
      /^still\.mp4: the prompt has at least 8 tokens/,
    ];
    assert.equal(warnings.length, expected.length, warnings.join("\n"));
    expected.forEach((pattern, i) => assert.match(warnings[i]!, pattern));
    const { tooShort, nearStill, longPrompts, clips } = statistics;
    assert.deepEqual({ tooShort, nearStill, longPrompts, clips: clips.length }, {
      tooShort: 1,
      nearStill: 1,
      longPrompts: 2,
      clips: 5,
    });
    assert.deepEqual(statistics.resolutions, { "160x96": 3, "96x160": 1, "80x48": 1 });
  });
});

Deno.test("checkDataset() looks at condition pictures and at the frame rule", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeClip(at("a.mp4"), "160x96", 24, 60);
    await makeClip(at("b.mp4"), "160x96", 24, 61);
    await ffmpeg("-i", at("a.mp4"), "-frames:v", "1", at("a.png"));
    await ffmpeg("-i", at("a.mp4"), "-frames:v", "1", "-vf", "scale=96:96,setsar=1", at("square.png"));
    await Deno.writeTextFile(at("videos.txt"), "a.mp4\nb.mp4\n");
    await Deno.writeTextFile(at("prompts.txt"), "sks a\nplain\n");
    await Deno.writeTextFile(at("images.txt"), "a.png\nsquare.png\n");
    const options = { ...training, frames: 9, images: true, idToken: "sks " };
    const byTime = await checkDataset(folder, options);
    assert.deepEqual(byTime.problems, []);
    assert.deepEqual(byTime.warnings, [
      "b.mp4: its picture has another shape (96x96) than the clip (160x96)",
      "a.mp4: the prompt contains the identifier token already (1 such prompts)",
    ]);
    assert.deepEqual(byTime.statistics.clips[0]!.indices, [0, 3, 6, 9, 12, 15, 18, 21, 24]);
    const byStride = await checkDataset(folder, { ...options, frameRule: "stride" });
    assert.deepEqual(byStride.statistics.clips[0]!.indices, [0, 6, 12, 18, 24, 30, 36, 42, 48]);
    await Deno.writeTextFile(at("a.png"), "oops");
    const { problems } = await checkDataset(folder, options);
    assert.match(problems[0]!, /a\.png: is a text file/);
  });
});

Deno.test("checkDataset() tells black clips, equal content under two names, and pictures among clips", () =>
  withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await makeClip(at("a.mp4"), "160x96", 8, 40);
    await Deno.copyFile(at("a.mp4"), at("b.mp4"));
    await ffmpeg(
      "-f",
      "lavfi",
      "-i",
      "color=black:s=160x96:r=8",
      "-frames:v",
      "20",
      "-pix_fmt",
      "yuv420p",
      at("c.mp4"),
    );
    await ffmpeg("-i", at("a.mp4"), "-frames:v", "1", at("d.png"));
    await Deno.writeTextFile(at("list.csv"), "video,caption\na.mp4,a\nb.mp4,b\nc.mp4,c\nd.png,d\n");
    const { problems, warnings, statistics } = await checkDataset(folder, training);
    assert.deepEqual(problems, ["d.png: is a picture, expected a clip of 17 frames"]);
    assert.deepEqual(warnings, ["c.mp4: is black (mean level 0.0 of 255)", "b.mp4: has the same content as a.mp4"]);
    // 17 frames at 8 per second of two clips of 5 s and one of 2.5 s.
    assert.deepEqual([statistics.seconds, statistics.used], [12.5, 3 * 17 / 8]);
  }));
