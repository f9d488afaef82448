/** Colours of decoded frames against the colours they were made of, whatever the file says or leaves out. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeFrames } from "../../../lib/data/video/video.ts";
import { ffmpeg, withFolder } from "../media.ts";

const COLOUR = [192, 64, 32];

/** Largest distance of any channel of a decoded frame from a colour, in levels. */
async function distance(path: string, colour: readonly number[]): Promise<number> {
  const info = await probe(path);
  const { data } = await decodeFrames(path, [1], { geometry: fitGeometry(info, { width: 96, height: 64 }) });
  return data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - colour[i % 3]!)), 0);
}

/** Sizes and tags, how the YUV is made, and what the probe says. */
const CASES = [
  { name: "untagged, 720 lines", size: "1280x720", matrix: "bt709", tags: [], rule: "bt709" },
  { name: "untagged, portrait", size: "720x1280", matrix: "bt709", tags: [], rule: "bt709" },
  { name: "untagged, wide", size: "1280x544", matrix: "bt709", tags: [], rule: "bt709" },
  { name: "untagged, standard definition", size: "720x480", matrix: "bt601", tags: [], rule: undefined },
  { name: "BT.709 in standard definition", size: "640x360", matrix: "bt709", tags: ["bt709"], rule: undefined },
  { name: "BT.601 in high definition", size: "1280x720", matrix: "bt601", tags: ["smpte170m"], rule: undefined },
] as const;

for (const { name, size, matrix, tags, rule } of CASES) {
  Deno.test(`colour of a clip: ${name}`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "clip.mp4");
      // From version 7 on, ffmpeg tags what a filter has converted.
      const untag = tags.length === 0 ? ",setparams=colorspace=unknown:color_primaries=unknown:color_trc=unknown" : "";
      await ffmpeg(
        ...["-f", "lavfi", "-i", `color=c=0xC04020:s=${size}:r=8`, "-frames:v", "3"],
        ...["-vf", `scale=out_color_matrix=${matrix}:out_range=tv,format=yuv420p${untag}`],
        ...tags.flatMap((tag) => ["-colorspace", tag, "-color_primaries", tag, "-color_trc", tag]),
        path,
      );
      assert.equal((await probe(path)).colour, rule);
      const worst = await distance(path, COLOUR);
      assert.ok(worst <= 2, `off by ${worst}`);
    }));
}

for (const transfer of ["smpte2084", "arib-std-b67"]) {
  Deno.test(`HDR (${transfer}) is mapped to a screen's range: what is darker than its knee keeps its colour`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "clip.mp4");
      // 96, 64, 32 of 255 in BT.709 are 0.13, 0.06 and 0.02 of white in linear light, which lies at 203 cd/m2.
      const to = `zscale=m=bt2020nc:p=bt2020:t=${transfer}:r=tv:npl=203:min=bt709:pin=bt709:tin=bt709:rin=tv`;
      await ffmpeg(
        ...["-f", "lavfi", "-i", "color=c=0x604020:s=320x192:r=8", "-frames:v", "3"],
        ...["-vf", `scale=out_color_matrix=bt709:out_range=tv,format=yuv444p,${to},format=yuv420p10le`],
        ...["-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "4"],
        ...["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"],
        path,
      );
      assert.equal((await probe(path)).colour, "hdr");
      const worst = await distance(path, [96, 64, 32]);
      assert.ok(worst <= 3, `off by ${worst}`);
    }));
}
