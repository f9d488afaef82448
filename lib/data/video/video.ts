/** Pixels of clips and pictures, in and out, through ffmpeg and pipes of raw RGB. */
import { UserError } from "../../errors.ts";
import { runTool } from "./ffmpeg.ts";
import { deinterlaceFilter, type Geometry, geometryFilter, type ResizeFilter } from "./geometry.ts";
import { inputArguments, openMedia } from "./media_file.ts";

/** Frames as bytes: RGB interleaved, rows top to bottom, frames one after another (`frames * height * width * 3`). */
export interface RgbFrames {
  /** The bytes. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** How many frames there are. */
  readonly frames: number;
  /** Pixels of a row. */
  readonly width: number;
  /** Rows of a frame. */
  readonly height: number;
}

/** Raised when a change of the filter graph or flags changes decoded pixels: part of every cache key. */
export const DECODE_VERSION = 1;

/** Options of {@linkcode decodeFrames}. */
export interface DecodeOptions {
  readonly geometry: Geometry;
  /** Resize filter ("bilinear"). */
  readonly filter?: ResizeFilter;
  /** Name used in errors; the path when not given. */
  readonly label?: string;
  /** Time limit in seconds (600). */
  readonly seconds?: number;
  readonly signal?: AbortSignal;
}

/** ffmpeg's filters that let the wanted frames through, by ascending and distinct numbers. */
export function selectFilter(geometry: Geometry, wanted: readonly number[]): string {
  return `${deinterlaceFilter(geometry)}select='${selectExpression(wanted)}'`;
}

/** ffmpeg expression that is true for the wanted frame numbers. */
function selectExpression(wanted: readonly number[]): string {
  const [first = 0, second] = wanted;
  if (second === undefined) return `eq(n,${first})`;
  const step = second - first;
  if (wanted.every((frame, i) => frame === first + i * step)) {
    return `between(n,${first},${wanted.at(-1)})*not(mod(n-${first},${step}))`;
  }
  return wanted.map((frame) => `eq(n,${frame})`).join("+");
}

/** Puts distinct ascending frames into the asked order, repeating some. */
function arrange(distinct: Uint8Array<ArrayBuffer>, wanted: number[], indices: readonly number[], size: number) {
  if (indices.length === wanted.length && indices.every((frame, i) => frame === wanted[i])) return distinct;
  const position = new Map(wanted.map((frame, i) => [frame, i * size]));
  const out = new Uint8Array(size * indices.length);
  indices.forEach((frame, i) =>
    out.set(distinct.subarray(position.get(frame)!, position.get(frame)! + size), i * size)
  );
  return out;
}

/**
 * Decodes the frames with these numbers (from 0, in the order they are shown; repeats allowed) at the geometry's target
 * size.
 *
 * Any damage before the last wanted frame is an error: ffmpeg alone conceals it and ends with success.
 *
 * @throws {UserError} in one line, if the file is missing, empty, mislabelled, without video, damaged, or holds fewer
 * frames.
 */
export async function decodeFrames(
  path: string,
  indices: readonly number[],
  options: DecodeOptions,
): Promise<RgbFrames> {
  const { geometry, filter, label = path, seconds, signal } = options;
  const bad = indices.find((frame) => !Number.isSafeInteger(frame) || frame < 0);
  if (indices.length === 0 || bad !== undefined) {
    throw new RangeError(
      `Cannot decode frames as their numbers must be integers from 0: current value is ${bad ?? "none"}`,
    );
  }
  const media = await openMedia(path, label);
  const wanted = [...new Set(indices)].sort((a, b) => a - b);
  const { width, height } = geometry.target;
  const size = width * height * 3;
  const data = new Uint8Array(size * wanted.length);
  let at = 0;
  const { code, error } = await runTool(
    "ffmpeg",
    [
      ..."-v error -nostdin -xerror -err_detect explode -max_pixels 67108864".split(" "),
      ...inputArguments(media),
      ..."-map 0:V:0 -an -sn -dn".split(" "),
      "-vf",
      `${selectFilter(geometry, wanted)},${geometryFilter(geometry, filter)}`,
      ...`-fps_mode passthrough -frames:v ${wanted.length} -f rawvideo -pix_fmt rgb24 pipe:1`.split(" "),
    ],
    label,
    {
      onOutput: (chunk) => {
        if (at + chunk.length > data.length) return false;
        data.set(chunk, at);
        at += chunk.length;
      },
      ...(seconds !== undefined && { seconds }),
      ...(signal !== undefined && { signal }),
    },
  );
  if (code !== 0 || at !== data.length) {
    const why = error ||
      (code === 0 ? `the video ends before frame ${wanted[wanted.length - 1]}` : `ffmpeg code ${code}`);
    throw new UserError(`${label}: ${Math.floor(at / size)} of ${wanted.length} frames could be decoded: ${why}`);
  }
  return { data: arrange(data, wanted, indices, size), frames: indices.length, width, height };
}

/** Decodes one picture, or the first frame of a clip, as {@linkcode decodeFrames} does. */
export function decodeImage(path: string, options: DecodeOptions): Promise<RgbFrames> {
  return decodeFrames(path, [0], options);
}

/** Options of {@linkcode encodeVideo}. */
export interface EncodeOptions {
  readonly fps: number;
  /** x264's constant rate factor (18, visually lossless); ignored for GIF. */
  readonly crf?: number;
  readonly signal?: AbortSignal;
}

const OUTPUT_ARGUMENTS: Readonly<Record<string, (crf: number) => string[]>> = {
  // Odd sizes are padded by one row or column, as 4:2:0 needs even ones. Bit-exact flags keep dates and versions out of
  // the file.
  mp4: (crf) => [
    ...`-c:v libx264 -preset medium -pix_fmt yuv420p -crf ${crf} -movflags +faststart -fflags +bitexact`.split(" "),
    ..."-vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -f mp4".split(" "),
  ],
  // One palette for all pixels: stats_mode=diff leaves out the colours of the last frame.
  gif: () => [
    "-filter_complex",
    "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=sierra2_4a",
    ..."-loop 0 -f gif".split(" "),
  ],
};

/**
 * Writes frames to an `.mp4` (H.264, plays everywhere) or a looping `.gif`. The file appears under its name only when
 * it is complete; an existing file stays as it was if anything fails.
 *
 * @throws {RangeError} if the name has another ending or the number of bytes does not fit the size.
 * @throws {UserError} if ffmpeg is missing or fails, such as when the disk is full.
 */
export async function encodeVideo(path: string, video: RgbFrames, options: EncodeOptions): Promise<void> {
  const { fps, crf = 18, signal } = options;
  const { data, frames, width, height } = video;
  const output = OUTPUT_ARGUMENTS[/\.(\w+)$/.exec(path)?.[1]?.toLowerCase() ?? ""];
  if (output === undefined) throw new RangeError(`Cannot encode "${path}" as its name must end in .mp4 or .gif`);
  if (frames < 1 || data.length !== frames * width * height * 3) {
    throw new RangeError(
      `Cannot encode "${path}" as ${data.length} bytes are not ${frames} RGB frames of ${width}x${height}`,
    );
  }
  if (!(fps > 0)) throw new RangeError(`Cannot encode "${path}" as fps must be positive: current value is ${fps}`);
  // The absolute path keeps a name with ":" or a leading "-" from being read as a protocol or an option.
  const part = `${path}.${Deno.pid}.part`;
  try {
    const { code, error } = await runTool(
      "ffmpeg",
      [
        ...`-v error -y -f rawvideo -pix_fmt rgb24 -s ${width}x${height} -r ${fps} -i pipe:0`.split(" "),
        ...output(crf),
        `file:${part}`,
      ],
      path,
      { input: data, ...(signal !== undefined && { signal }) },
    );
    if (code !== 0) throw new UserError(`${path}: could not be written: ${error || `ffmpeg ended with code ${code}`}`);
    await Deno.rename(part, path);
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw error;
  }
}
