/** What a device allows the recordings that are made for it. */

/** What a device can do with textures. */
export interface TextureLimits {
  /** Bytes of an operand from which on a launch is worth copies. */
  readonly leastBytes: number;
  /** Textures one launch may read. */
  readonly most: number;
  /** Rows of a texture. */
  readonly maxRows: number;
}

/** Limits of the device a recording is made for. */
export interface RecordingLimits {
  /** Largest buffer in bytes. */
  readonly chunkBytes: number;
  /** Largest range one binding may cover in bytes. */
  readonly bindingBytes: number;
  /** Which operands are read through textures; none without. */
  readonly textures?: TextureLimits;
  /** Most tensors, or pieces of them, that one launch may bind. */
  readonly bindings: number;
}

/**
 * Most bindings that plans use, whatever a device offers: every piece adds a word to the 64 words of a launch's
 * parameters, of which kernels themselves use up to half.
 */
export const MOST_BINDINGS = 32;

/** Limits of a common discrete GPU, for forecasts made without a device. */
export const DISCRETE_LIMITS: RecordingLimits = {
  chunkBytes: 2 ** 31 - 256,
  bindingBytes: 2 ** 31 - 4,
  bindings: MOST_BINDINGS,
};
