/** Pixels do not depend on the machine: any number of threads, and a processor without vector units, give the same bytes. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fitGeometry, geometryFilter } from "../../../lib/data/video/geometry.ts";
import { decodeFrames, selectFilter } from "../../../lib/data/video/video.ts";
import { makeClip, range, withFolder } from "../media.ts";

const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

Deno.test("decoded frames have the same bytes with 1, 2 and 4 threads and without vector units", () =>
  withFolder(async (folder) => {
    const path = join(folder, "clip.mp4");
    await makeClip(path, "160x96", 8, 17);
    for (const fit of ["crop", "letterbox", "stretch"] as const) {
      const geometry = fitGeometry({ width: 160, height: 96 }, { width: 64, height: 48 }, fit);
      const expected = hash((await decodeFrames(path, range(17), { geometry })).data);
      const filter = `${selectFilter(geometry, range(17))},${geometryFilter(geometry)}`;
      for (const machine of [["-threads", "1"], ["-threads", "2"], ["-threads", "4"], ["-cpuflags", "0"]]) {
        const { stdout } = await new Deno.Command("ffmpeg", {
          args: [
            ...["-v", "error", "-nostdin", ...machine, "-f", "mov", "-i", `file:${path}`, "-map", "0:V:0"],
            ...["-filter_threads", machine[0] === "-threads" ? machine[1]! : "1", "-vf", filter],
            ..."-fps_mode passthrough -f rawvideo -pix_fmt rgb24 pipe:1".split(" "),
          ],
        }).output();
        assert.equal(hash(stdout), expected, `${fit} ${machine}`);
      }
    }
  }));
