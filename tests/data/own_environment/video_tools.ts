/** What video code makes of ffmpeg as it should not be; see tests/own_process.ts for why this is a program of its own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ffmpegVersion } from "../../../lib/data/video/ffmpeg.ts";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeFrames, encodeVideo } from "../../../lib/data/video/video.ts";
import { fakeTools, greySteps, makeClip, messageOf, range, stretch, withFolder, withPath } from "../media.ts";

Deno.test("decodeFrames() gives the same bytes with one thread and without vector instructions", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    await makeClip(path, "128x72", 8, 9);
    const plain = await fakeTools(
      folder,
      `exec "$(PATH=/usr/local/bin:/usr/bin:/bin command -v ffmpeg)" -cpuflags 0 -threads 1 "$@"`,
    );
    for (const mode of ["crop", "letterbox", "stretch"] as const) {
      for (const filter of ["bilinear", "lanczos"] as const) {
        const decode = () =>
          decodeFrames(path, range(9), {
            geometry: fitGeometry({ width: 128, height: 72 }, { width: 48, height: 32 }, mode),
            filter,
          });
        const fast = await decode();
        await withPath(
          `${plain}:/usr/bin:/bin`,
          async () => assert.deepEqual((await decode()).data, fast.data, `${mode} ${filter}`),
        );
      }
    }
  });
});

Deno.test("encodeVideo() keeps the existing file when it fails", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "kept.mp4");
    await Deno.writeTextFile(path, "precious");
    const video = { data: greySteps(4, 8, 8), frames: 4, width: 8, height: 8 };
    const bin = await fakeTools(folder, "echo 'No space left on device' >&2; exit 1");
    await withPath(`${bin}:/bin:/usr/bin`, async () => {
      assert.match(
        await messageOf(encodeVideo(path, video, { fps: 8 })),
        /could not be written: No space left on device/,
      );
    });
    assert.equal(await Deno.readTextFile(path), "precious");
    await assert.rejects(encodeVideo(path, { ...video, frames: 5 }, { fps: 8 }), RangeError);
    await assert.rejects(encodeVideo(join(folder, "x.txt"), video, { fps: 8 }), RangeError);
    await assert.rejects(encodeVideo(path, video, { fps: 0 }), RangeError);
  });
});

Deno.test("a missing ffmpeg is an error with the command that installs it", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    await makeClip(path, "32x16", 8, 3);
    await withPath(folder, async () => {
      assert.match(
        await messageOf(probe(path)),
        /"ffprobe" is not on the PATH\nHint: .*sudo apt-get install -y ffmpeg/,
      );
      const decoding = decodeFrames(path, [0], { geometry: stretch(8, 8) });
      assert.match(await messageOf(decoding), /"ffmpeg" is not on the PATH\nHint: .*sudo apt-get install -y ffmpeg/);
    });
  });
});

Deno.test("a tool that hangs, crashes, floods or is too old ends with an error that says so", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    await makeClip(path, "32x16", 8, 3);
    const outcome = async (script: string, seconds: number) => {
      const bin = await fakeTools(folder, script);
      let message = "";
      await withPath(`${bin}:/bin:/usr/bin`, async () => {
        message = await messageOf(decodeFrames(path, [0], { geometry: stretch(8, 8), seconds }));
      });
      return message;
    };
    assert.match(await outcome("exec sleep 60", 0.3), /did not finish within 0\.3 s/);
    assert.match(await outcome("kill -SEGV $$", 20), /crashed \(SIGSEGV\)/);
    assert.match(await outcome("exec yes", 20), /more data than was asked for/);
    assert.match(await outcome("yes | head -c 3000000 >&2; exit 1", 20), /0 of 1 frames could be decoded: y$/);
    const old = await fakeTools(folder, "echo 'ffmpeg version 4.4.2-0ubuntu0 Copyright'");
    await withPath(`${old}:/bin:/usr/bin`, async () => {
      assert.match(await messageOf(ffmpegVersion()), /is version 4\.4\.2-0ubuntu0, at least 5\.1 is needed/);
    });
  });
  assert.match(await ffmpegVersion(), /\d/);
});
