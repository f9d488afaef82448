/** Names and files of sampled videos. */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { encodePng } from "../data/video/png.ts";
import { encodeVideo, type RgbFrames } from "../data/video/video.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import { makeFolder } from "../io/file_operations.ts";

/** What a video can be written as: a file that plays, a looping picture, a folder of pictures. */
export const sampleFormats = ["mp4", "gif", "png"] as const;

/** One of {@linkcode sampleFormats}. */
export type SampleFormat = typeof sampleFormats[number];

/** Letters of a prompt in a file name. */
const NAME_LETTERS = 40;

/** Name of a sample without ending: number from 1, the beginning of its prompt, its seed. */
export function sampleName(index: number, prompt: string, seed: number): string {
  const words = prompt.normalize("NFC").toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const slug = [...words.join("-")].slice(0, NAME_LETTERS).join("").replace(/-$/, "");
  return [String(index + 1).padStart(3, "0"), ...(slug === "" ? [] : [slug]), `seed${seed}`].join("-");
}

/** Letters of a prompt in the name of a validation artifact, and digits of its hash. */
const ARTIFACT_LETTERS = 25;
const ARTIFACT_DIGITS = 5;

/**
 * Name of a validation artifact without ending, as the original trainer gives it: step, process, sanitised prompt cut
 * to 25 letters, and the beginning of the MD5 of the reversed prompt, which tells prompts with one beginning apart.
 * Characters that no file name may hold become dashes too.
 */
export function validationName(step: number, process: number, prompt: string): string {
  const letters = [...prompt];
  const sanitised = letters.slice(0, ARTIFACT_LETTERS).join("").replace(/[ /:.,;!?\\\p{Cc}]/gu, "-");
  const reversed = letters.reverse().join("");
  const hash = createHash("md5").update(reversed).digest("hex").slice(0, ARTIFACT_DIGITS);
  return `validation-${step}-${process}-${sanitised}-${hash}`;
}

/** Writes one picture of a video as PNG. */
export async function writePicture(path: string, { data, width, height }: RgbFrames, frame = 0): Promise<void> {
  const size = width * height * 3;
  await writeFileAtomic(path, await encodePng(data.subarray(frame * size, (frame + 1) * size), width, height));
}

/**
 * Writes a video in every asked format beside each other, in a folder that is made when missing.
 *
 * @param base path without ending; `png` makes a folder of that name with one picture per frame.
 * @returns the paths, in the order of `formats`.
 * @throws {UserError} when a file cannot be written; one that exists is whole, before and after.
 */
export async function writeSample(
  base: string,
  video: RgbFrames,
  { formats, fps, signal }: {
    readonly formats: readonly SampleFormat[];
    readonly fps: number;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<string[]> {
  makeFolder(dirname(base));
  const paths: string[] = [];
  for (const format of formats) {
    if (format === "png") {
      makeFolder(base);
      const digits = String(video.frames - 1).length;
      for (let frame = 0; frame < video.frames; frame++) {
        await writePicture(join(base, `${String(frame).padStart(digits, "0")}.png`), video, frame);
      }
      paths.push(base);
    } else {
      await encodeVideo(`${base}.${format}`, video, { fps, ...(signal === undefined ? {} : { signal }) });
      paths.push(`${base}.${format}`);
    }
  }
  return paths;
}
