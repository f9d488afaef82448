/**
 * Tensors that no launch can bind as they are, because they live in host memory or are stored in fewer bits: the first
 * launch that binds one has it copied (or widened) into a transient, later launches of the same window of the recording
 * share that copy, and at the end of the window what changed is copied back.
 *
 * Streamed weights, quantised weights, gradients that leave the GPU and optimizer state in host memory are all this one
 * policy: memory assignment sees ordinary transients with short lives.
 */
import { Tensor } from "./tensor.ts";

interface Copy {
  readonly tensor: Tensor;
  changed: boolean;
}

/** The copies of one window. */
export class Copies {
  readonly #copies = new Map<Tensor, Copy>();

  /**
   * @param transfer Records a copy between host and GPU memory.
   * @param widen Records how a quantised tensor is made into one that launches can read.
   */
  constructor(
    readonly transfer: (from: Tensor, to: Tensor) => void,
    readonly widen: (from: Tensor, to: Tensor) => void,
  ) {}

  /** What a launch binds for `tensor`: itself, or the same range of its copy on the GPU. */
  onGpu(tensor: Tensor, changed: boolean): Tensor {
    const { owner } = tensor;
    if (!owner.host && owner.quantised === undefined) return tensor;
    let copy = this.#copies.get(owner);
    if (copy === undefined) {
      copy = { tensor: new Tensor(owner.name, owner.shape, owner.dtype), changed: false };
      this.#copies.set(owner, copy);
      (owner.host ? this.transfer : this.widen)(owner, copy.tensor);
    }
    if (changed) copy.changed = true;
    return new Tensor(tensor.name, tensor.shape, tensor.dtype, { base: copy.tensor, byteOffset: tensor.byteOffset });
  }

  /** Ends the window: writes back what changed and forgets all copies. */
  release(): void {
    for (const [owner, { tensor, changed }] of this.#copies) if (changed) this.transfer(tensor, owner);
    this.#copies.clear();
  }
}
