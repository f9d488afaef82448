/** A few frames of a clip side by side, as training sees them. */
import { UserError } from "../../errors.ts";
import { runTool } from "./ffmpeg.ts";
import { type Geometry, geometryFilter } from "./geometry.ts";
import { inputArguments, openMedia } from "./media_file.ts";
import { selectFilter } from "./video.ts";

/** Frames on a sheet. */
const FRAMES = 4;

/** No sheet of four small frames has more bytes. */
const MOST_BYTES = 1 << 20;

/**
 * A JPEG of up to four of these frames, evenly spread, cut as `geometry` says and `rows` pixels high.
 *
 * @throws {UserError} if the clip cannot be decoded.
 */
export async function contactSheet(
  path: string,
  indices: readonly number[],
  { geometry, label, rows = 120 }: { readonly geometry: Geometry; readonly label: string; readonly rows?: number },
): Promise<Uint8Array<ArrayBuffer>> {
  const distinct = [...new Set(indices)].sort((a, b) => a - b);
  const count = Math.min(FRAMES, distinct.length);
  const wanted = Array.from({ length: count }, (_, i) => {
    return distinct[count === 1 ? 0 : Math.round(i * (distinct.length - 1) / (count - 1))]!;
  });
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  const filters = [
    selectFilter(geometry, wanted),
    geometryFilter(geometry),
    `scale=-2:${rows}`,
    `tile=${count}x1`,
    "format=yuvj420p",
  ];
  const { code, error } = await runTool(
    "ffmpeg",
    [
      ..."-v error -nostdin -max_pixels 67108864".split(" "),
      ...inputArguments(await openMedia(path, label)),
      ..."-map 0:V:0 -an -sn -dn -vf".split(" "),
      filters.join(","),
      ..."-frames:v 1 -f image2pipe -c:v mjpeg -q:v 5 pipe:1".split(" "),
    ],
    label,
    { onOutput: (chunk) => (chunks.push(chunk), (bytes += chunk.length) <= MOST_BYTES) },
  );
  if (code !== 0 || bytes === 0) {
    throw new UserError(`${label}: no contact sheet could be made: ${error || "no frames"}`);
  }
  return await new Blob(chunks).bytes();
}
