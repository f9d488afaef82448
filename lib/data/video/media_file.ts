/**
 * Looks at a media file before any decoder does: what kind of file it is, by its first bytes and never by its name.
 *
 * ffmpeg probes for more than two hundred formats, among them playlists that open other files and addresses. Naming the
 * demuxer ourselves leaves only the containers of this table.
 */
import { UserError } from "../../errors.ts";
import { causeOf } from "../../io/file_operations.ts";

/** A file that may be given to ffmpeg, opened with this demuxer and no other. */
export interface MediaFile {
  /** Absolute path. */
  readonly path: string;
  /** ffmpeg's name of the demuxer. */
  readonly demuxer: string;
  /** Whether the format holds one still picture. */
  readonly still: boolean;
  /** Size in bytes. */
  readonly bytes: number;
}

interface Magic {
  readonly demuxer: string;
  readonly still?: boolean;
  readonly matches: (head: Uint8Array, ascii: string) => boolean;
}

const MP4_BOXES = new Set(["ftyp", "moov", "mdat", "wide", "free", "skip", "pnot"]);

function startsWith(...bytes: number[]): (head: Uint8Array) => boolean {
  return (head) => bytes.every((byte, i) => head[i] === byte);
}

const MAGICS: readonly Magic[] = [
  { demuxer: "mov", matches: (_, ascii) => MP4_BOXES.has(ascii.slice(4, 8)) },
  { demuxer: "matroska", matches: startsWith(0x1a, 0x45, 0xdf, 0xa3) },
  { demuxer: "avi", matches: (_, ascii) => ascii.startsWith("RIFF") && ascii.slice(8, 12) === "AVI " },
  { demuxer: "mpegts", matches: (head) => head[0] === 0x47 && head[188] === 0x47 },
  { demuxer: "mpeg", matches: startsWith(0, 0, 1, 0xba) },
  { demuxer: "flv", matches: (_, ascii) => ascii.startsWith("FLV\x01") },
  { demuxer: "gif", matches: (_, ascii) => ascii.startsWith("GIF8") },
  { demuxer: "png_pipe", still: true, matches: startsWith(0x89, 0x50, 0x4e, 0x47) },
  { demuxer: "jpeg_pipe", still: true, matches: startsWith(0xff, 0xd8, 0xff) },
  {
    demuxer: "bmp_pipe",
    still: true,
    matches: (head, ascii) => ascii.startsWith("BM") && head[6] === 0 && head[7] === 0,
  },
  {
    demuxer: "webp_pipe",
    still: true,
    matches: (_, ascii) => ascii.startsWith("RIFF") && ascii.slice(8, 12) === "WEBP",
  },
];

function describe(head: Uint8Array): string {
  const text = new TextDecoder().decode(head);
  // deno-lint-ignore no-control-regex -- text is what has no control characters besides white space
  const isText = !text.slice(0, 200).includes("\ufffd") && !/[\x00-\x08\x0e-\x1f]/.test(text);
  if (!isText) return "data of no supported format";
  if (text.startsWith("version https://git-lfs")) return 'a Git LFS pointer (fetch the file with "git lfs pull")';
  return `${/^\s*<(!doctype|html)/i.test(text) ? "an HTML page" : "a text file"} (it begins with ${
    JSON.stringify(text.slice(0, 24))
  })`;
}

function kindOf(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isFifo) return "a pipe";
  if (info.isSocket) return "a socket";
  return "a device";
}

/**
 * Checks that `path` is a regular, non-empty file of a supported format.
 *
 * @param label Name used in errors; the path when not given.
 * @throws {UserError} naming what the file is, if it cannot be decoded.
 */
export async function openMedia(path: string, label: string = path): Promise<MediaFile> {
  const fail = (error: unknown): never => {
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${label}: no such file`);
    const { reason, advice } = causeOf(error);
    throw new UserError(`${label}: cannot be opened (${reason})`, advice);
  };
  const info = await Deno.stat(path).catch(fail);
  // Opening a pipe would wait for a writer for ever, so the kind comes before the content.
  if (!info.isFile) throw new UserError(`${label}: is ${kindOf(info)}, expected a video or image file`);
  if (info.size === 0) throw new UserError(`${label}: is empty (0 bytes)`, "copy or export the file again");
  using file = await Deno.open(path).catch(fail);
  const buffer = new Uint8Array(512);
  const head = buffer.subarray(0, (await file.read(buffer)) ?? 0);
  const ascii = String.fromCharCode(...head.subarray(0, 16));
  const magic = MAGICS.find((candidate) => candidate.matches(head, ascii));
  if (magic === undefined) {
    throw new UserError(
      `${label}: is ${describe(head)}, expected mp4, mov, mkv, webm, avi, ts, mpg, flv, gif, png, jpg, bmp or webp`,
    );
  }
  return { path: await Deno.realPath(path), demuxer: magic.demuxer, still: magic.still === true, bytes: info.size };
}

/**
 * Input arguments every ffmpeg and ffprobe call begins with: one named demuxer, local files only, `file:` before the
 * path.
 */
export function inputArguments(media: MediaFile): string[] {
  return ["-protocol_whitelist", "file,pipe", "-f", media.demuxer, "-i", `file:${media.path}`];
}
