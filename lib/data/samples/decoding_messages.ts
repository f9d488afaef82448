/** What `decoder.ts` and its worker tell each other. */
import type { RgbFrames } from "../video/video.ts";
import type { PixelRecipe } from "./sample_pixels.ts";

/** What the worker is told. */
export type DecodeOrder = { readonly id: number; readonly recipe: PixelRecipe } | { readonly stop: true };

/** What the worker answers: frames, why there are none, or that it has stopped. */
export type DecodeAnswer =
  | { readonly id: number; readonly frames: RgbFrames }
  | { readonly id: number; readonly summary: string; readonly hint: string | undefined; readonly isUserError: boolean }
  | { readonly ended: true };
