/** What is made of answers of ffprobe that no sound file gives; see tests/own_process.ts for why this is a program of its own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { probe } from "../../../lib/data/video/probe.ts";
import { fakeTools, makeClip, messageOf, withFolder, withPath } from "../media.ts";

const stream = { codec_name: "h264", width: 32, height: 16, avg_frame_rate: "8/1", pix_fmt: "yuv420p" };
const packet = (i: number, flags = "K__") => ({ pts_time: `${i / 8}`, flags });

Deno.test("every answer that stands for no usable video is an error with the name of the clip", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    await makeClip(path, "32x16", 8, 3);
    const answer = join(folder, "answer.json");
    const bin = await fakeTools(folder, `cat "${answer}"`);
    const asked = async (json: unknown) => {
      await Deno.writeTextFile(answer, JSON.stringify(json));
      return await probe(path, "clip.mp4");
    };
    await withPath(`${bin}:/bin:/usr/bin`, async () => {
      const cases: readonly (readonly [unknown, RegExp])[] = [
        [{}, /^clip\.mp4: has no video stream \(only sound or data\)$/],
        [{ streams: [stream] }, /^clip\.mp4: has a video stream with 0 frames$/],
        [{ streams: [stream], packets: [packet(0, "KD_")] }, /has a video stream with 0 frames$/],
        [
          { streams: [{ ...stream, nb_frames: "9" }], packets: [packet(0)] },
          /^clip\.mp4: is cut short: promises 9 frames but holds 1\nHint: copy or export/,
        ],
        [
          { streams: [stream], packets: Array.from({ length: 500_001 }, () => ({ flags: "" })) },
          /has 500001 frames, more than the limit of \d+\nHint: cut it into clips$/,
        ],
        [{ streams: [{ ...stream, width: 0 }], packets: [packet(0)] }, /has frames of 0x16, expected 1 to \d+ pixels$/],
        [{ streams: [{ pix_fmt: "x" }], packets: [packet(0)] }, /has frames of 0x0/],
        [{ streams: [{ ...stream, width: 1e5, height: 1e5 }], packets: [packet(0)] }, /has frames of 100000x100000/],
      ];
      for (const [json, says] of cases) assert.match(await messageOf(asked(json)), says);
      const { codec, pixelFormat, fps, timestamps } = await asked({
        streams: [{ width: 32, height: 16, avg_frame_rate: "0/0" }],
        packets: [{ flags: "" }, { flags: "" }],
      });
      // Without times and without a rate the frames stand on an even grid of 25 a second.
      assert.deepEqual([codec, pixelFormat, fps, [...timestamps]], ["unknown", "unknown", 25, [0, 0.04]]);
    });
    const failing = await fakeTools(folder, "exit 3");
    await withPath(`${failing}:/bin:/usr/bin`, async () => {
      assert.match(await messageOf(probe(path, "clip.mp4")), /^clip\.mp4: cannot be read: ffprobe ended with code 3$/);
    });
  });
});
