/**
 * Clips of many kinds that say by themselves what is in them: every frame has four known colours in its upper half and
 * its own number in its lower half, as four squares of black or white.
 */
import { join } from "node:path";
import { ffmpeg, range } from "../media.ts";

/** Size and number of the frames that go in. */
export const SIZE = { width: 64, height: 48 };
export const FRAMES = 12;

/** The colours, left to right. */
const COLOURS = [[192, 64, 32], [32, 160, 64], [48, 64, 192], [200, 200, 200]] as const;

/** Video black and white, so that limited range holds them. */
const LEVELS = [16, 235] as const;

/** The colour that a frame of this number has in a square: 0 to 3 above, 4 to 7 below, left to right. */
function colourOf(frame: number, square: number): readonly number[] {
  if (square < 4) return COLOURS[square]!;
  const level = LEVELS[(frame >> (square - 4)) & 1]!;
  return [level, level, level];
}

/** Frames of these numbers as RGB bytes; squares are a quarter of the width and half of the height. */
function source(numbers: readonly number[], width: number, height: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(numbers.length * width * height * 3);
  let at = 0;
  for (const frame of numbers) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const square = Math.min(3, Math.floor(4 * x / width)) + (2 * y < height ? 0 : 4);
        data.set(colourOf(frame, square), at);
        at += 3;
      }
    }
  }
  return data;
}

/** One kind of clip. */
export interface Kind {
  readonly name: string;
  /** ffmpeg's encoder. */
  readonly encoder: string;
  /** How the colours become what the encoder takes. */
  readonly filter: string;
  readonly args?: readonly string[];
  /** Name of the file. */
  readonly file: string;
  /** Makes the clip of the one that was encoded. */
  readonly remake?: (from: string, to: string) => Promise<void>;
  readonly size?: { readonly width: number; readonly height: number };
  /** Numbers of the frames that go in. */
  readonly drawn?: readonly number[];
  /** Numbers of the frames that come out; all when left out. */
  readonly frames?: readonly number[];
  /** Clockwise turn of what comes out. */
  readonly rotation?: 90 | 180 | 270;
  /** Seconds of the frames. */
  readonly times?: readonly number[];
}

const yuv = (format: string, matrix = "bt709", range = "tv") =>
  `scale=out_color_matrix=${matrix}:out_range=${range}:flags=accurate_rnd+full_chroma_int+bitexact,format=${format}`;
const tags = (tag: string, range = "tv") => [
  ...["-colorspace", tag, "-color_primaries", tag, "-color_trc", tag, "-color_range", range],
];
const bt709 = tags("bt709");
const x264 = ["-qp", "0", "-g", "6", ...bt709];

/** Copies the streams with other words around them. */
const copied = (...words: string[]) => (from: string, to: string) => ffmpeg("-i", from, "-c", "copy", ...words, to);

const h264 = { encoder: "libx264", filter: yuv("yuv420p"), args: x264, file: "clip.mp4" };
const turned = (rotation: 90 | 180 | 270): Kind => ({
  ...h264,
  name: `turned by ${rotation} degrees`,
  // Both count anticlockwise; the option came with ffmpeg 6, which ignores the tag.
  remake: (from, to) =>
    ffmpeg("-display_rotation", `${360 - rotation}`, "-i", from, "-c", "copy", to)
      .catch(() => copied("-metadata:s:v:0", `rotate=${360 - rotation}`)(from, to)),
  rotation,
});

export const KINDS: readonly Kind[] = [
  { ...h264, name: "H.264" },
  { ...h264, name: "H.264 with B-frames", args: ["-crf", "2", "-bf", "3", "-b_strategy", "0", "-g", "12", ...bt709] },
  {
    ...h264,
    name: "H.264, full range",
    filter: yuv("yuvj420p", "bt709", "pc"),
    args: ["-qp", "0", ...tags("bt709", "pc")],
  },
  { ...h264, name: "H.264, BT.601", filter: yuv("yuv420p", "bt601"), args: ["-qp", "0", ...tags("smpte170m")] },
  { ...h264, name: "H.264, 4:4:4", filter: yuv("yuv444p") },
  { ...h264, name: "H.264, 4:2:2 in 10 bits", filter: yuv("yuv422p10le") },
  { ...h264, name: "H.264, odd size", filter: yuv("yuv444p"), size: { width: 63, height: 47 } },
  { ...h264, name: "H.264 in a transport stream", file: "clip.ts" },
  { ...h264, name: "H.264 in Flash video", file: "clip.flv" },
  {
    name: "HEVC",
    encoder: "libx265",
    filter: yuv("yuv420p"),
    args: ["-x265-params", "lossless=1:log-level=none", ...bt709],
    file: "clip.mp4",
  },
  {
    name: "HEVC in 10 bits",
    encoder: "libx265",
    filter: yuv("yuv420p10le"),
    args: ["-x265-params", "lossless=1:log-level=none:bframes=4", ...bt709],
    file: "clip.mkv",
  },
  {
    name: "AV1",
    encoder: "libaom-av1",
    filter: yuv("yuv420p"),
    args: ["-cpu-used", "8", "-crf", "0", "-aom-params", "lossless=1", ...bt709],
    file: "clip.mp4",
  },
  {
    name: "VP9, odd size",
    encoder: "libvpx-vp9",
    filter: yuv("yuv420p"),
    args: ["-lossless", "1", ...bt709],
    file: "clip.webm",
    size: { width: 63, height: 47 },
  },
  {
    name: "VP9 with transparency",
    encoder: "libvpx-vp9",
    filter: yuv("yuva420p"),
    args: ["-lossless", "1", "-auto-alt-ref", "0", ...bt709],
    file: "clip.webm",
  },
  {
    name: "ProRes 422 without a tag",
    encoder: "prores_ks",
    filter: yuv("yuv422p10le", "bt601"),
    args: ["-profile:v", "3"],
    file: "clip.mov",
  },
  {
    name: "ProRes 4444 with transparency, without a tag",
    encoder: "prores_ks",
    filter: yuv("yuva444p10le", "bt601"),
    args: ["-profile:v", "4"],
    file: "clip.mov",
  },
  { name: "QuickTime animation with transparency", encoder: "qtrle", filter: "format=argb", file: "clip.mov" },
  { name: "FFV1 in RGB", encoder: "ffv1", filter: "format=gbrp", file: "clip.mkv" },
  { name: "FFV1 in AVI", encoder: "ffv1", filter: "format=bgr0", file: "clip.avi" },
  {
    name: "GIF",
    encoder: "gif",
    filter: "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none",
    file: "clip.gif",
  },
  {
    name: "MPEG-2, BT.601 without a tag",
    encoder: "mpeg2video",
    filter: yuv("yuv420p", "bt601"),
    args: ["-q:v", "1", "-qmin", "1", "-intra_vlc", "1", "-dc", "10", "-g", "1"],
    file: "clip.mpg",
    size: { width: 128, height: 96 },
  },
  {
    ...h264,
    name: "interlaced: the first moment of each frame",
    filter: `tinterlace=interleave_top,${yuv("yuv420p")}`,
    args: ["-qp", "0", "-flags", "+ildct+ilme", "-x264opts", "tff=1", ...bt709],
    // One square changes from moment to moment and none flickers, or nothing would tell motion from rest.
    drawn: [0, 1, 3, 2, 6, 7, 5, 4, 12, 13, 15, 14],
    frames: [0, 3, 6, 5, 12, 15],
    times: [0, 0.25, 0.5, 0.75, 1, 1.25],
  },
  {
    ...h264,
    name: "variable frame rate",
    filter: `settb=1/1000,setpts='if(lt(N,6),N*0.05,0.3+(N-6)*0.5)/TB',${yuv("yuv420p")}`,
    args: [...x264, "-fps_mode", "vfr", "-enc_time_base", "1:1000", "-video_track_timescale", "1000"],
    times: [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.8, 1.3, 1.8, 2.3, 2.8],
  },
  {
    ...h264,
    name: "an edit list that begins between two key frames",
    args: ["-qp", "0", "-g", "12", "-bf", "0", ...bt709],
    remake: (from, to) => ffmpeg("-ss", "0.5", "-i", from, "-c", "copy", to),
    frames: [4, 5, 6, 7, 8, 9, 10, 11],
    times: [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875],
  },
  {
    ...h264,
    name: "negative timestamps",
    remake: copied("-output_ts_offset", "-1", "-avoid_negative_ts", "disabled", "-use_editlist", "0"),
  },
  {
    ...h264,
    name: "timestamps that begin late",
    file: "clip.mkv",
    remake: copied("-output_ts_offset", "5000"),
  },
  turned(90),
  turned(180),
  turned(270),
];

/** Makes a clip of a kind in a folder and returns its path. */
export async function makeKind(kind: Kind, folder: string): Promise<string> {
  const { encoder, filter, args = [], file, remake, size = SIZE, drawn = range(FRAMES) } = kind;
  const raw = join(folder, "frames.rgb");
  await Deno.writeFile(raw, source(drawn, size.width, size.height));
  const encoded = join(folder, remake === undefined ? file : `encoded-${file}`);
  await ffmpeg(
    ...["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", `${size.width}x${size.height}`, "-r", "8", "-i", raw],
    ...["-filter_complex", filter, "-c:v", encoder, ...args, encoded],
  );
  if (remake === undefined) return encoded;
  const path = join(folder, file);
  await remake(encoded, path);
  return path;
}

/** Largest distance, in levels, of the middle of any square of a decoded frame from what a frame number says. */
export function distanceFrom(
  pixels: Uint8Array,
  { width, height }: { readonly width: number; readonly height: number },
  frame: number,
  rotation: 0 | 90 | 180 | 270 = 0,
): number {
  const sideways = rotation % 180 !== 0;
  const [uprightWidth, uprightHeight] = sideways ? [height, width] : [width, height];
  let worst = 0;
  for (let square = 0; square < 8; square++) {
    for (let dy = -2; dy < 2; dy++) {
      for (let dx = -2; dx < 2; dx++) {
        const x = Math.floor((square % 4 + 0.5) * uprightWidth / 4) + dx;
        const y = Math.floor((Math.floor(square / 4) + 0.5) * uprightHeight / 2) + dy;
        // Where the pixel comes to lie when the picture is turned clockwise.
        const [column, row] = rotation === 90
          ? [uprightHeight - 1 - y, x]
          : rotation === 180
          ? [uprightWidth - 1 - x, uprightHeight - 1 - y]
          : rotation === 270
          ? [y, uprightWidth - 1 - x]
          : [x, y];
        colourOf(frame, square).forEach((level, c) => {
          worst = Math.max(worst, Math.abs(pixels[3 * (row * width + column) + c]! - level));
        });
      }
    }
  }
  return worst;
}
