/** Pictures and videos that samples start from. */
import { fitGeometry } from "../data/video/geometry.ts";
import { selectFrames } from "../data/video/frames.ts";
import { probe } from "../data/video/probe.ts";
import { decodeFrames, decodeImage, type RgbFrames } from "../data/video/video.ts";

/** Reads a picture, or the first frame of a clip, at its own size. Throws UserError when it cannot be decoded. */
export async function readPicture(path: string): Promise<RgbFrames> {
  const info = await probe(path);
  return await decodeImage(path, { geometry: fitGeometry(info, info) });
}

/** A video to start from, and what the user should know about the choice of frames. */
export interface StartVideo {
  readonly video: RgbFrames;
  readonly warning: string | undefined;
}

/**
 * Reads the first `frames` frames of a clip at the frame rate of the result and at the clip's own size.
 *
 * @throws {UserError} when it cannot be decoded.
 */
export async function readVideo(
  path: string,
  { frames, fps }: { readonly frames: number; readonly fps: number },
): Promise<StartVideo> {
  const info = await probe(path);
  const { indices, warning } = selectFrames(info, { frames, fps });
  return { video: await decodeFrames(path, indices, { geometry: fitGeometry(info, info) }), warning };
}
