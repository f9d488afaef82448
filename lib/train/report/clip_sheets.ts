/** Small pictures of the clips that a run trains on, for its page. */
import { Buffer } from "node:buffer";
import pLimit from "p-limit";
import type { Sample } from "../../data/samples/sample_pixels.ts";
import { contactSheet } from "../../data/video/contact_sheet.ts";

/** A clip on the page. */
export interface PageClip {
  readonly name: string;
  readonly prompt: string;
  /** Four of its frames side by side, as a data URI; absent where they could not be made. */
  readonly picture?: string;
}

/** Clips on the page, of which each adds 8 KB to every writing; `data check --html` shows all of a dataset. */
export const MOST_CLIPS = 16;

/** Height of a frame in pixels: four frames of 16:9 are 455 pixels wide, more than a column of the page. */
const ROWS = 64;

/** Clips that are decoded side by side. */
const CLIPS_AT_ONCE = 4;

/**
 * The first clips of a dataset, those that repeat one once. A clip without a picture is no reason to end a run: what is
 * wrong with it was said when it was encoded.
 */
export function clipSheets(samples: readonly Pick<Sample, "item" | "clip">[]): Promise<PageClip[]> {
  const distinct = [...new Map(samples.map((sample) => [sample.clip.path, sample])).values()];
  return pLimit(CLIPS_AT_ONCE).map(distinct.slice(0, MOST_CLIPS), async ({ item: { name, prompt }, clip }) => {
    const sheet = await contactSheet(clip.path, clip.indices, { ...clip, rows: ROWS }).catch(() => undefined);
    if (sheet === undefined) return { name, prompt };
    return { name, prompt, picture: `data:image/jpeg;base64,${Buffer.from(sheet).toString("base64")}` };
  });
}
