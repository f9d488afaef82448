/** What a run needs, in figures. */

/** A named share of a phase's memory. */
export interface MemoryPart {
  /** What it holds. */
  readonly name: string;
  /** Bytes of its buffers. */
  readonly bytes: number;
}

/** One phase of a run. */
export interface PhaseForecast {
  /** Name of the phase, such as training. */
  readonly name: string;
  /** What one unit of work is: a step, a clip, a prompt, a video. */
  readonly unit: string;
  /** Largest sum of all GPU buffers, every byte of which is in one of the parts. */
  readonly gpuBytes: number;
  /** What that consists of. */
  readonly parts: readonly MemoryPart[];
  /** Host memory of tensors that live there. */
  readonly hostBytes: number;
  /** Kernel launches of one unit. */
  readonly launches: number;
  /** Floating-point operations of one unit; multiply and add are two. */
  readonly flops: number;
  /** Bytes copied to the GPU for one unit. */
  readonly uploadBytes: number;
  /** Bytes copied from the GPU for one unit. */
  readonly downloadBytes: number;
}

/** A forecast of all phases. */
export interface Forecast {
  /** In the order of the run. */
  readonly phases: readonly PhaseForecast[];
  /** GPU memory of the phase that needs most, in bytes. */
  readonly peakBytes: number;
  /** Name of that phase. */
  readonly peakPhase: string;
  /** What the arena of the training step holds at its fullest, by tensor name. */
  readonly live: readonly MemoryPart[];
}
