/** Copies of tensors in textures, as kernels read them on software adapters. */
import { type TexelFormat, TEXTURE_WIDTH } from "../../kernels/core/kernel.ts";
import { textureRowBytes } from "../plan/textures.ts";

/** A copy that is made before a launch. */
export interface TextureCopy {
  readonly from: { readonly buffer: GPUBuffer; readonly offset: number };
  readonly texture: GPUTexture;
  readonly texels: number;
}

/** Encodes a copy: whole rows of texels, then the rest. */
export function copyToTexture(encoder: GPUCommandEncoder, { from, texture, texels }: TextureCopy): void {
  const bytesPerRow = textureRowBytes(texture.format as TexelFormat);
  const rows = Math.floor(texels / TEXTURE_WIDTH);
  const rest = texels % TEXTURE_WIDTH;
  if (rows > 0) encoder.copyBufferToTexture({ ...from, bytesPerRow }, { texture }, [TEXTURE_WIDTH, rows]);
  if (rest === 0) return;
  const offset = from.offset + rows * bytesPerRow;
  encoder.copyBufferToTexture({ ...from, offset, bytesPerRow }, { texture, origin: [0, rows] }, [rest, 1]);
}
