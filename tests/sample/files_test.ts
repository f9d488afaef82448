import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { probe } from "../../lib/data/video/probe.ts";
import { makeFolder } from "../../lib/io/file_operations.ts";
import { sampleName, validationName, writeSample } from "../../lib/sample/files.ts";
import { readPicture, readVideo } from "../../lib/sample/pictures.ts";
import { makeClip, withFolder } from "../data/media.ts";
import { referencePath } from "../reference.ts";

Deno.test("validation artifacts have the names of the original trainer", () => {
  const { prompts } = JSON.parse(readFileSync(referencePath("data/names.json"), "utf8")) as {
    prompts: { prompt: string; artifact_mp4: string }[];
  };
  assert.ok(prompts.length >= 10);
  for (const { prompt, artifact_mp4 } of prompts) {
    const [, step, rank] = /^validation-(\d+)-(\d+)-/.exec(artifact_mp4)!;
    assert.equal(`${validationName(Number(step), Number(rank), prompt)}.mp4`, artifact_mp4);
  }
});

Deno.test("names hold nothing that a file system refuses", () => {
  assert.equal(sampleName(0, "A Red kite, over the SEA!", 42), "001-a-red-kite-over-the-sea-seed42");
  assert.equal(sampleName(11, "../../etc/passwd\0", 0), "012-etc-passwd-seed0");
  assert.equal(sampleName(0, " \n", 7), "001-seed7");
  assert.equal(sampleName(0, "猫が 窓", 1), "001-猫が-窓-seed1");
  assert.equal([...sampleName(0, "x".repeat(500), 1)].length, "001-".length + 40 + "-seed1".length);
  assert.match(validationName(1, 0, "a\\b\0c\nd"), /^validation-1-0-a-b-c-d-[0-9a-f]{5}$/);
});

Deno.test("a sample is written as video, looping picture and single pictures", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const video = {
      data: Uint8Array.from({ length: 11 * 16 * 32 * 3 }, (_, i) => (i >> 4) & 255),
      frames: 11,
      height: 16,
      width: 32,
    };
    const base = `${folder}/below/001`;
    const paths = await writeSample(base, video, { formats: ["mp4", "gif", "png"], fps: 8 });
    assert.deepEqual(paths, [`${base}.mp4`, `${base}.gif`, base]);
    for (const path of paths.slice(0, 2)) {
      const { frames, width, height } = await probe(path);
      assert.deepEqual([frames, width, height], [11, 32, 16]);
    }
    const names = [...Deno.readDirSync(base)].map(({ name }) => name).sort();
    assert.deepEqual([names.length, names[0], names.at(-1)], [11, "00.png", "10.png"]);
    const last = await readPicture(`${base}/10.png`);
    assert.deepEqual(last, { ...video, frames: 1, data: video.data.slice(10 * 16 * 32 * 3) });
    await Deno.writeTextFile(`${folder}/file`, "");
    assert.throws(() => makeFolder(`${folder}/file/below`), /create/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("readVideo() takes frames at the rate of the result and keeps the clip's size", async () => {
  await withFolder(async (folder) => {
    await makeClip(`${folder}/clip.mp4`, "48x32", 24, 20);
    const { video, warning } = await readVideo(`${folder}/clip.mp4`, { frames: 5, fps: 8 });
    assert.deepEqual([video.frames, video.width, video.height, warning], [5, 48, 32, undefined]);
    // Every third frame of 24 a second is 8 a second.
    const all = await readVideo(`${folder}/clip.mp4`, { frames: 20, fps: 24 });
    const size = 48 * 32 * 3;
    for (let f = 0; f < 5; f++) {
      assert.deepEqual(
        video.data.slice(f * size, (f + 1) * size),
        all.video.data.slice(3 * f * size, (3 * f + 1) * size),
      );
    }
    await assert.rejects(readPicture(`${folder}/absent.png`), /no such file/);
  });
});
