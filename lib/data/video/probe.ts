/** What a clip or picture contains, without decoding it. */
import { UserError } from "../../errors.ts";
import { runTool } from "./ffmpeg.ts";
import type { ColourRule } from "./geometry.ts";
import { inputArguments, openMedia } from "./media_file.ts";

/** Limits that a training clip never reaches; beyond them a file is damaged or hostile. */
const MAX_PIXELS = 8192 * 8192;
const MAX_FRAMES = 500_000;
const MAX_PROBE_BYTES = 64 * 1024 * 1024;

/** Facts about the first real video stream of a file. */
export interface Probe {
  /** Size in pixels after the rotation metadata has been applied. */
  readonly width: number;
  readonly height: number;
  /** Width of a pixel divided by its height; 1 for nearly every file. */
  readonly pixelAspect: number;
  /** Clockwise turn in degrees that the container asks for and the decoder applies: 0, 90, 180 or 270. */
  readonly rotation: number;
  /** Mean frames per second. */
  readonly fps: number;
  /** Number of frames, counted and not read from the header. */
  readonly frames: number;
  /** Length in seconds, the last frame's own duration included. */
  readonly duration: number;
  /** Seconds at which each frame is shown, ascending from 0. */
  readonly timestamps: Float64Array;
  readonly codec: string;
  readonly pixelFormat: string;
  /** What decoding has to do about colour that the tags do not say. */
  readonly colour?: ColourRule | undefined;
  /** Whether every frame holds lines of two moments. */
  readonly interlaced: boolean;
  /** Whether the format holds one still picture. */
  readonly still: boolean;
}

interface ProbeJson {
  readonly packets?: { pts_time?: string; flags: string }[];
  readonly streams?: {
    readonly codec_name?: string;
    readonly width?: number;
    readonly height?: number;
    readonly avg_frame_rate?: string;
    readonly nb_frames?: string;
    readonly sample_aspect_ratio?: string;
    readonly pix_fmt?: string;
    readonly color_space?: string;
    readonly color_transfer?: string;
    readonly field_order?: string;
    readonly tags?: { rotate?: string };
    readonly side_data_list?: { rotation?: number }[];
  }[];
}

function ratio(text: string | undefined, otherwise: number): number {
  const [over, under] = (text ?? "").split(/[/:]/).map(Number);
  const value = over! / under!;
  return Number.isFinite(value) && value > 0 ? value : otherwise;
}

/** Transfer functions of HDR: PQ and HLG. */
const HDR_TRANSFERS = ["smpte2084", "arib-std-b67"];

/** Orders of interlaced fields: the first letter is the field that is coded first, the second that is shown first. */
const FIELD_ORDERS = ["tt", "bb", "tb", "bt"];

/**
 * Players take video without a tag for BT.709 from 720 lines or 1280 columns up, while swscale takes it for BT.601:
 * 192, 64, 32 would come out as 180, 51, 33. Pictures without a tag are BT.601, as JFIF says.
 */
function colourRule(
  { color_transfer = "", color_space = "unknown", pix_fmt = "" }: NonNullable<ProbeJson["streams"]>[number],
  width: number,
  height: number,
  still: boolean,
): ColourRule | undefined {
  if (HDR_TRANSFERS.includes(color_transfer)) return "hdr";
  const isUntagged = !still && color_space === "unknown" && pix_fmt.startsWith("yuv");
  return isUntagged && (width >= 1280 || height >= 720) ? "bt709" : undefined;
}

async function runProbe(path: string, label: string): Promise<{ json: ProbeJson; error: string; still: boolean }> {
  const media = await openMedia(path, label);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  const { code, error } = await runTool(
    "ffprobe",
    [
      "-v",
      "error",
      // Probing decodes a frame where headers leave something open: 710 MB and 9 s for a PNG of 656 KB that claims
      // 15000x15000, against 52 MB and 0.3 s with the limit.
      "-max_pixels",
      `${MAX_PIXELS}`,
      "-select_streams",
      "V:0",
      "-show_entries",
      "packet=pts_time,flags:stream=codec_name,width,height,avg_frame_rate,nb_frames,sample_aspect_ratio,pix_fmt," +
      "color_space,color_transfer,field_order:" +
      "stream_side_data=rotation:stream_tags=rotate",
      "-of",
      "json=compact=1",
      ...inputArguments(media),
    ],
    label,
    { onOutput: (chunk) => (chunks.push(chunk), (bytes += chunk.length) <= MAX_PROBE_BYTES), seconds: 120 },
  );
  const claimed = /Picture size (\d+x\d+) (?:exceeds|is invalid)/.exec(error)?.[1];
  if (claimed !== undefined) {
    throw new UserError(`${label}: has frames of ${claimed}, expected 1 to ${MAX_PIXELS} pixels`);
  }
  if (code !== 0) throw new UserError(`${label}: cannot be read: ${error || `ffprobe ended with code ${code}`}`);
  return { json: JSON.parse(await new Blob(chunks).text()), error, still: media.still };
}

/** Timestamps from 0, or an even grid where the container has none. */
function frameTimes(packets: readonly { readonly pts_time?: string }[], fps: number): Float64Array {
  const times = Float64Array.from(packets, (packet) => Number(packet.pts_time)).sort();
  const first = times[0]!;
  const complete = times.every(Number.isFinite) && (times.length < 2 || times.at(-1)! > first);
  return complete ? times.map((time) => time - first) : Float64Array.from(packets, (_, i) => i / fps);
}

/**
 * Reads size, rotation, frame rate and the time of every frame. Reads the whole file but decodes nothing.
 *
 * @param label Name used in errors; the path when not given.
 * @throws {UserError} in one line, if the file is missing, empty, mislabelled, has no video stream or is cut short.
 */
export async function probe(path: string, label: string = path): Promise<Probe> {
  const { json, error, still } = await runProbe(path, label);
  const stream = json.streams?.[0];
  if (stream === undefined) throw new UserError(`${label}: has no video stream (only sound or data)`);
  const packets = json.packets ?? [];
  const promised = Number(stream.nb_frames);
  if (promised > packets.length) {
    const found = `promises ${promised} frames but holds ${packets.length}`;
    throw new UserError(`${label}: is cut short: ${found}${error && ` (${error})`}`, "copy or export the file again");
  }
  // Packets that an edit list discards are decoded but never shown.
  const shown = packets.filter((packet) => !packet.flags.includes("D"));
  if (shown.length === 0) throw new UserError(`${label}: has a video stream with 0 frames`);
  if (shown.length > MAX_FRAMES) {
    throw new UserError(
      `${label}: has ${shown.length} frames, more than the limit of ${MAX_FRAMES}`,
      "cut it into clips",
    );
  }
  const { width: codedWidth = 0, height: codedHeight = 0 } = stream;
  if (codedWidth < 1 || codedHeight < 1 || codedWidth * codedHeight > MAX_PIXELS) {
    throw new UserError(`${label}: has frames of ${codedWidth}x${codedHeight}, expected 1 to ${MAX_PIXELS} pixels`);
  }
  // The display matrix counts anticlockwise; older files carry a clockwise tag instead.
  const turn = stream.side_data_list?.find((data) => data.rotation !== undefined)?.rotation;
  const clockwise = turn === undefined ? Number(stream.tags?.rotate ?? 0) : -turn;
  const rotation = (((Math.round(clockwise / 90) * 90) % 360) + 360) % 360;
  const sideways = rotation % 180 === 90;
  const aspect = ratio(stream.sample_aspect_ratio, 1);
  const fps = ratio(stream.avg_frame_rate, 25);
  const timestamps = frameTimes(shown, fps);
  return {
    width: sideways ? codedHeight : codedWidth,
    height: sideways ? codedWidth : codedHeight,
    pixelAspect: sideways ? 1 / aspect : aspect,
    rotation,
    fps,
    frames: shown.length,
    duration: timestamps.at(-1)! + 1 / fps,
    timestamps,
    codec: stream.codec_name ?? "unknown",
    pixelFormat: stream.pix_fmt ?? "unknown",
    colour: colourRule(stream, codedWidth, codedHeight, still),
    interlaced: FIELD_ORDERS.includes(stream.field_order ?? ""),
    still,
  };
}
