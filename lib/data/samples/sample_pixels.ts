/**
 * The pixels one sample is trained on: which frames, which part of the picture, and what a cache entry of them is
 * called.
 */
import { UserError } from "../../errors.ts";
import type { CacheFields, CacheRequest } from "../cache/key.ts";
import { pixelFields } from "../cache/key.ts";
import type { DatasetItem } from "../dataset/dataset.ts";
import type { FileHashes } from "../cache/file_hashes.ts";
import { selectFrames } from "../video/frames.ts";
import { fitGeometry, type FitMode, type Geometry, type ResizeFilter, type Size } from "../video/geometry.ts";
import { type Probe, probe } from "../video/probe.ts";
import { resizeImage } from "../video/resize.ts";
import { decodeFrames, decodeImage, type RgbFrames } from "../video/video.ts";
import { chooseShape, type ShapeOptions, shapesOf } from "./buckets.ts";

/** How samples are made of clips, and what encodes them. */
export interface EncodingSettings extends ShapeOptions {
  /** How clips of another shape are fitted ("crop"). */
  readonly fit?: FitMode;
  /** Resize filter ("bilinear"). */
  readonly filter?: ResizeFilter;
  /** Whether samples have a condition picture (false). */
  readonly images?: boolean;
  /** What the VAE's output depends on: hash of its weights, tiling, compute type. */
  readonly vae: CacheFields;
  /** What a prompt's embedding depends on: hash of text encoder and tokenizer, token limit, compute type. */
  readonly textEncoder: CacheFields;
  /** Version of ffmpeg, from `ffmpegVersion()`. */
  readonly ffmpeg: string;
}

/** Where the pixels of a clip or picture come from. */
export interface PixelRecipe {
  readonly path: string;
  readonly label: string;
  readonly indices: readonly number[];
  readonly geometry: Geometry;
  readonly filter: ResizeFilter;
  /** Size to reach with OpenCV's arithmetic after decoding, as the original trainer treats pictures. */
  readonly resizeTo?: Size;
}

/** One sample with the cache entries it consists of. */
export interface Sample {
  readonly item: DatasetItem;
  readonly prompt: CacheRequest;
  readonly latent: CacheRequest;
  readonly clip: PixelRecipe;
  /** Place of the clip's shape among the buckets; 0 without. */
  readonly bucket: number;
  /** Present if the settings ask for condition pictures. */
  readonly image?: { readonly request: CacheRequest; readonly picture: PixelRecipe };
  /** What the user should know about the choice of frames. */
  readonly warning: string | undefined;
}

/**
 * A picture is fitted as its clip is. Fit `stretch` repeats the original trainer, which resizes pictures with OpenCV:
 * bilinear, half-pixel centres, no antialiasing.
 */
async function pictureRecipe(
  item: DatasetItem,
  clip: PixelRecipe,
  { size, fit = "crop" }: Pick<EncodingSettings, "size" | "fit">,
): Promise<PixelRecipe> {
  const path = item.imagePath ?? item.videoPath;
  const label = item.imagePath ?? item.name;
  if (item.imagePath === undefined && fit !== "stretch") return { ...clip, indices: [0] };
  const info = await probe(path, label);
  if (fit !== "stretch") return { ...clip, path, label, indices: [0], geometry: fitGeometry(info, size, fit) };
  return { ...clip, path, label, indices: [0], geometry: fitGeometry(info, info, "stretch"), resizeTo: size };
}

async function pixelRequest(recipe: PixelRecipe, hashes: FileHashes, settings: EncodingSettings): Promise<CacheFields> {
  const fileHash = await hashes.file(recipe.path);
  const { resizeTo } = recipe;
  return {
    ...pixelFields({ ...recipe, fileHash, ffmpeg: settings.ffmpeg }),
    ...(resizeTo && { resize: `opencv ${resizeTo.width}x${resizeTo.height}` }),
    ...settings.vae,
  };
}

/**
 * Looks at the clip of an item.
 *
 * @throws {UserError} when it is a picture and more than one frame is trained: repeated, it would teach to stand still.
 */
export async function probeClip({ videoPath, name }: DatasetItem, options: ShapeOptions): Promise<Probe> {
  const info = await probe(videoPath, name);
  const frames = Math.min(...shapesOf(options).map(({ frames }) => frames));
  if (!info.still || frames === 1) return info;
  throw new UserError(
    `${name}: is a picture, expected a clip of ${frames} frames`,
    "pictures train as clips of one frame, apart from others: --train_resolution 1xHEIGHTxWIDTH",
  );
}

/**
 * Works out what a dataset item consists of. Reads and hashes its files, decodes nothing.
 *
 * @throws {UserError} if the clip or picture cannot be read.
 */
export async function prepareSample(
  item: DatasetItem,
  settings: EncodingSettings,
  hashes: FileHashes,
): Promise<Sample> {
  const { fps, frameRule: rule = "time", fit = "crop", filter = "bilinear" } = settings;
  const { name, prompt } = item;
  const info = await probeClip(item, settings);
  const { frames, size, bucket } = chooseShape(info, settings);
  const { indices, warning } = selectFrames(info, { frames, fps, rule });
  const clip = { path: item.videoPath, label: name, indices, geometry: fitGeometry(info, size, fit), filter };
  const sample: Sample = {
    item,
    prompt: { kind: "prompt", name, fields: { prompt, ...settings.textEncoder } },
    latent: { kind: "latent", name, fields: await pixelRequest(clip, hashes, settings) },
    clip,
    bucket,
    warning,
  };
  if (settings.images !== true) return sample;
  const picture = await pictureRecipe(item, clip, { ...settings, size });
  const fields = await pixelRequest(picture, hashes, settings);
  return { ...sample, image: { request: { kind: "image", name, fields }, picture } };
}

/** Decodes a clip or picture as its recipe says. */
export async function decodePixels(recipe: PixelRecipe, signal?: AbortSignal): Promise<RgbFrames> {
  const { path, indices, geometry, filter, label, resizeTo } = recipe;
  const options = { geometry, filter, label, ...(signal && { signal }) };
  if (resizeTo === undefined) return await decodeFrames(path, indices, options);
  return resizeImage(await decodeImage(path, options), resizeTo, "opencv");
}
