/** Names of cache entries: a hash over everything that determines their content. */
import { createHash } from "node:crypto";
import { deinterlaceFilter, type Geometry, geometryFilter, type ResizeFilter } from "../video/geometry.ts";
import { DECODE_VERSION } from "../video/video.ts";

/** Raised when the content or layout of an entry changes its meaning, so that no entry of another version is read. */
export const CACHE_VERSION = 1;

/** Kinds of entries, each in a folder of its own. */
export const CACHE_KINDS = ["latent", "image", "prompt"] as const;

/**
 * `latent`: posterior mean and log-variance of a clip, f32 [2*16, f, h, w]. `image`: the same of a condition picture,
 * f32 [2*16, 1, h, w]. `prompt`: text embedding, f32 [Nt, X].
 */
export type CacheKind = (typeof CACHE_KINDS)[number];

/** Everything an entry's content depends on, by name. */
export type CacheFields = Readonly<Record<string, string | number | boolean>>;

/** Asks for one entry. */
export interface CacheRequest {
  readonly kind: CacheKind;
  /** What people call the sample, such as "videos/a.mp4"; not part of the key. */
  readonly name: string;
  readonly fields: CacheFields;
  /** Shape that its reader expects, where it says so: an entry of another one is damaged; not part of the key. */
  readonly shape?: readonly number[];
}

/** SHA-256 in hexadecimal over version, kind and fields in alphabetical order. */
export function cacheKey(request: Pick<CacheRequest, "kind" | "fields">): string {
  const fields = Object.entries(request.fields).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify([CACHE_VERSION, request.kind, fields])).digest("hex");
}

/** What the pixels of a sample depend on. */
export interface PixelSource {
  /** SHA-256 of the file. */
  readonly fileHash: string;
  /** Chosen frame numbers. */
  readonly indices: readonly number[];
  readonly geometry: Geometry;
  readonly filter?: ResizeFilter;
  /** Version of ffmpeg. */
  readonly ffmpeg: string;
}

/** Fields of the pixels a sample is decoded to; the encoder's own fields come on top. */
export function pixelFields(source: PixelSource): CacheFields {
  const { target } = source.geometry;
  return {
    file: source.fileHash,
    frames: source.indices.join(","),
    size: `${target.width}x${target.height}`,
    filter: deinterlaceFilter(source.geometry) + geometryFilter(source.geometry, source.filter),
    decoder: DECODE_VERSION,
    ffmpeg: source.ffmpeg,
  };
}
