/**
 * Recording: ops append launches to a flat list and note how to go backward. Shapes are all that is needed: no device,
 * no data.
 *
 * Policies that a reader could not guess:
 * - gradients of trainable (resident) tensors are always added to; the window of accumulation clears them beforehand;
 * - the gradient of a transient is written by its first contributor and added to by the others, in recording order;
 * - an op's `backward` runs exactly once, and its output's gradient may be handed on as the gradient of an input.
 */
import type { DType, Launch, Target } from "../../kernels/core/kernel.ts";
import { dequantise } from "../../kernels/matrix/dequantise.ts";
import { Copies } from "./copies.ts";
import { Tensor, type TensorOptions } from "./tensor.ts";

/** One launch of the list with the tensors bound to it. */
export interface LaunchStep {
  readonly kind: "launch";
  readonly launch: Launch;
  /** In the order of the kernel's buffers. */
  readonly tensors: readonly Tensor[];
  /** Those of `tensors` that the launch writes. */
  readonly writes: readonly Tensor[];
  /** Where in the model it was recorded, for profiles and for naming the first bad tensor. */
  readonly scope: string;
}

/** A copy between host memory and the GPU; one of the two tensors is a host tensor. */
export interface TransferStep {
  readonly kind: "transfer";
  /** Source, then destination. */
  readonly tensors: readonly [from: Tensor, to: Tensor];
  readonly writes: readonly Tensor[];
  readonly scope: string;
}

/** What a plan is a list of. */
export type Step = LaunchStep | TransferStep;

interface TapeEntry {
  readonly output: Tensor;
  readonly scope: string;
  readonly backward: (outputGradient: Tensor) => void;
}

/** How blocks marked with {@linkcode Plan.checkpoint} are recorded. */
export interface CheckpointPolicy {
  /** False records every block once and keeps what its backward needs. */
  readonly enabled: boolean;
  /** Names of expensive results kept although their block is recomputed, for instance `attention`. */
  readonly keep: readonly string[];
  /** Moves the input of every block to host memory until its backward. */
  readonly offload?: boolean;
  /** Rows that {@linkcode Plan.inRows} handles at a time. Default {@linkcode ROWS_AT_ONCE}. */
  readonly rows?: number;
}

/**
 * Rows of a feed-forward at a time: enough that its products fill a large GPU (1,500 workgroups at width 3072), few
 * enough that the inner activations of 17,776 tokens shrink to a fifth.
 */
const ROWS_AT_ONCE = 4096;

/** Choices that shape a recording. */
export interface PlanOptions {
  readonly target: Target;
  readonly checkpointing?: CheckpointPolicy;
}

/** What a checkpointed block remembers between its forward and its recomputation. */
type Memo = Map<string, readonly Tensor[]>;

/** A list of launches under construction. */
export class Plan {
  readonly target: Target;
  readonly steps: Step[] = [];
  /** Tensors that must hold their value when the plan has run. */
  readonly outputs = new Set<Tensor>();
  readonly #checkpointing: CheckpointPolicy;
  #tape: TapeEntry[] | undefined = [];
  readonly #gradients = new Map<Tensor, Tensor>();
  /** Where the first contribution to a gradient goes, for tensors whose gradient is part of a larger one. */
  readonly #gradientPlaces = new Map<Tensor, Tensor>();
  #scope = "";
  readonly #copies = new Copies((from, to) => this.#transfer(from, to), (from, to) => this.#widen(from, to));
  #firstRow = 0;
  #memo: { readonly store: Memo; readonly replay: boolean } | undefined;

  constructor({ target, checkpointing = { enabled: false, keep: [] } }: PlanOptions) {
    this.target = target;
    this.#checkpointing = checkpointing;
  }

  /** Row of the whole tensor with which the part begins that {@linkcode inRows} records; 0 outside. */
  get firstRow(): number {
    return this.#firstRow;
  }

  /** A tensor that lives inside this plan only; it needs a gradient when one of `from` does. */
  transient(name: string, shape: readonly number[], dtype: DType, from: readonly Tensor[] = []): Tensor {
    const needsGrad = from.some((tensor) => tensor.needsGrad);
    return new Tensor(this.#scoped(name), shape, dtype, { needsGrad });
  }

  /** A tensor the host writes before, or reads after, a run. */
  resident(name: string, shape: readonly number[], dtype: DType, options: TensorOptions = {}): Tensor {
    return new Tensor(this.#scoped(name), shape, dtype, { ...options, resident: true });
  }

  /** Keeps a transient readable after the run. */
  output(tensor: Tensor): Tensor {
    this.outputs.add(tensor.owner);
    return tensor;
  }

  /** Names everything recorded inside. */
  scope<T>(name: string, record: () => T): T {
    const outer = this.#scope;
    this.#scope = outer === "" ? name : `${outer}.${name}`;
    try {
      return record();
    } finally {
      this.#scope = outer;
    }
  }

  #scoped(name: string): string {
    return this.#scope === "" ? name : `${this.#scope}.${name}`;
  }

  #transfer(from: Tensor, to: Tensor): void {
    this.steps.push({ kind: "transfer", tensors: [from, to], writes: [to], scope: this.#scope });
  }

  #widen({ quantised }: Tensor, to: Tensor): void {
    const { kind, block, codes, scales } = quantised!;
    const spec = { kind, scales: scales.dtype, y: to.dtype };
    this.launch(dequantise(spec, { elements: to.size, block }), [codes, scales, to], [to]);
  }

  /**
   * Copies changed host tensors back and drops their copies on the GPU; a launch that binds one again fetches it again.
   */
  release(): void {
    this.#copies.release();
  }

  /**
   * Appends a launch. `operands` follow the kernel's buffers and may live in host memory; `changed` names those of them
   * that the launch writes.
   */
  launch(launch: Launch, operands: readonly Tensor[], changed: readonly Tensor[]): void {
    const { kernel } = launch;
    const bound = new Map(operands.map((tensor) => [tensor, this.#copies.onGpu(tensor, changed.includes(tensor))]));
    const tensors = operands.map((tensor) => bound.get(tensor)!);
    const writes = changed.map((tensor) => bound.get(tensor) ?? tensor);
    if (tensors.length !== kernel.buffers.length) {
      throw new RangeError(
        `Cannot launch ${kernel.key}: it binds ${kernel.buffers.length} tensors, got ${tensors.length}`,
      );
    }
    tensors.forEach((tensor, i) => {
      const { name, dtype } = kernel.buffers[i]!;
      if (tensor.dtype !== dtype) {
        throw new TypeError(
          `Cannot bind "${tensor.name}" to ${name} of ${kernel.key}: ${tensor.dtype} is not ${dtype}`,
        );
      }
      if (tensors.some((other, j) => j < i && overlap(tensor, other))) {
        throw new RangeError(`Cannot launch ${kernel.key}: "${tensor.name}" is bound twice`);
      }
    });
    this.steps.push({ kind: "launch", launch, tensors, writes, scope: this.#scope });
  }

  /** Notes how the gradient of `output` becomes gradients of its inputs. Skipped when nothing before it needs one. */
  differentiable(output: Tensor, backward: (outputGradient: Tensor) => void): Tensor {
    if (output.needsGrad) this.#tape?.push({ output, backward, scope: this.#scope });
    return output;
  }

  /**
   * Calls `write` with the tensor that collects the gradient of `of` and whether to add to it; does nothing when no
   * gradient is needed.
   */
  contribute(of: Tensor, write: (gradient: Tensor, accumulate: boolean) => void): void {
    if (!of.needsGrad) return;
    if (of.gradient !== undefined) return write(of.gradient, true);
    const existing = this.#gradients.get(of);
    if (existing !== undefined) return write(existing, true);
    const gradient = this.#gradientPlaces.get(of) ?? new Tensor(`d ${of.name}`, of.shape, of.dtype);
    this.#gradients.set(of, gradient);
    write(gradient, false);
  }

  /** Makes `gradient` itself the gradient of `of`; `add` is asked to sum it in when another contributor came first. */
  passOn(of: Tensor, gradient: Tensor, add: (into: Tensor, gradient: Tensor) => void): void {
    if (!of.needsGrad) return;
    const existing = of.gradient ?? this.#gradients.get(of);
    if (existing !== undefined) add(existing, gradient);
    else this.#gradients.set(of, gradient);
  }

  /** Records the backward pass of everything recorded so far, starting from the gradient of `output`. */
  backward(output: Tensor, gradient: Tensor): void {
    const tape = this.#tape;
    if (tape === undefined) throw new Error("Cannot record a backward pass inside a checkpointed forward");
    this.#tape = [];
    this.#gradients.set(output, gradient);
    this.#walk(tape);
    this.release();
  }

  #walk(tape: readonly TapeEntry[]): void {
    let last: string | undefined;
    for (const entry of tape.toReversed()) {
      const gradient = this.#gradients.get(entry.output);
      if (gradient === undefined) continue;
      this.#gradients.delete(entry.output);
      const outer = this.#scope;
      // Host tensors stay on the GPU for one block, whose entries all have the same scope.
      if (last !== undefined && entry.scope !== last) this.release();
      last = entry.scope;
      this.#scope = entry.scope;
      entry.backward(gradient);
      this.#scope = outer;
    }
  }

  /**
   * Records `block` so that only its input is kept for backward, where it is recorded a second time (gradient
   * checkpointing; Chen et al. 2016, arXiv:1604.06174). Launches of the second recording that nothing needs are dropped
   * when the plan is finished. With checkpointing disabled the block is simply recorded.
   */
  checkpoint(input: Tensor, block: (input: Tensor) => Tensor): Tensor {
    const outerTape = this.#tape;
    const enabled = this.#checkpointing.enabled && outerTape !== undefined;
    const store: Memo = new Map();
    if (enabled) {
      this.#tape = undefined;
      this.#memo = { store, replay: false };
    }
    const output = block(input);
    this.release();
    if (!enabled) return output;
    this.#memo = undefined;
    this.#tape = outerTape;
    const kept = this.#checkpointing.offload && output.needsGrad ? this.#toHost(input) : undefined;
    return this.differentiable(output, (gradient) => {
      const again = kept === undefined ? input : this.#fromHost(kept, input);
      this.#replay(block, again, store, gradient);
      const inputGradient = this.#gradients.get(again);
      if (again !== input && inputGradient !== undefined) this.#gradients.set(input, inputGradient);
    });
  }

  #replay(block: (input: Tensor) => Tensor, input: Tensor, store: Memo, gradient: Tensor): void {
    const tape: TapeEntry[] = [];
    this.#tape = tape;
    this.#memo = { store, replay: true };
    const output = block(input);
    this.#memo = undefined;
    this.#tape = [];
    this.#gradients.set(output, gradient);
    this.#walk(tape);
    this.release();
  }

  #toHost(tensor: Tensor): Tensor {
    const kept = new Tensor(`kept ${tensor.name}`, tensor.shape, tensor.dtype, { host: true });
    this.#transfer(tensor, kept);
    return kept;
  }

  #fromHost(kept: Tensor, { name, needsGrad }: Tensor): Tensor {
    const tensor = new Tensor(name, kept.shape, kept.dtype, { needsGrad });
    this.#transfer(kept, tensor);
    return tensor;
  }

  /**
   * Records y [rows, width] = part(x) for a part that treats every row by itself, so that only `rows` of its inner
   * results exist at a time: backward records the part again, range by range. `part` writes to the y it is given, and
   * reads nothing that needs a gradient besides x and parameters. Where backward would keep inner results anyway, all
   * rows are one range.
   */
  inRows(x: Tensor, y: Tensor, part: (x: Tensor, y: Tensor) => void): Tensor {
    const { enabled, rows = ROWS_AT_ONCE } = this.#checkpointing;
    if (x.rows <= rows || (y.needsGrad && !enabled)) {
      part(x, y);
      return y;
    }
    const outerTape = this.#tape;
    const ranges = Math.ceil(x.rows / rows);
    const size = Math.ceil(x.rows / ranges);
    const range = (tensor: Tensor, first: number, needsGrad: boolean) =>
      tensor.window(tensor.name, first * tensor.width, [Math.min(size, x.rows - first), tensor.width], { needsGrad });
    const starts = Array.from({ length: ranges }, (_, i) => i * size);
    this.#tape = undefined;
    for (const first of starts) {
      this.#firstRow = first;
      part(range(x, first, x.needsGrad), range(y, first, y.needsGrad));
    }
    this.#firstRow = 0;
    this.#tape = outerTape;
    return this.differentiable(y, (g) => {
      const backward = (dx: Tensor | undefined, accumulate: boolean) => {
        for (const first of starts) {
          const input = range(x, first, x.needsGrad);
          if (dx !== undefined) {
            (accumulate ? this.#gradients : this.#gradientPlaces).set(input, range(dx, first, false));
          }
          this.#firstRow = first;
          this.#partBackward(part, input, y, range(g, first, false));
        }
        this.#firstRow = 0;
      };
      if (x.needsGrad) this.contribute(x, backward);
      else backward(undefined, false);
    });
  }

  #partBackward(
    part: (x: Tensor, y: Tensor) => void,
    input: Tensor,
    { name, dtype, needsGrad }: Tensor,
    g: Tensor,
  ): void {
    const outerTape = this.#tape;
    const tape: TapeEntry[] = [];
    this.#tape = tape;
    const again = new Tensor(name, g.shape, dtype, { needsGrad });
    part(input, again);
    this.#tape = outerTape;
    this.#gradients.set(again, g);
    this.#walk(tape);
    this.#gradients.delete(input);
    this.#gradientPlaces.delete(input);
  }

  /** Results that a checkpoint policy may keep by `name`: recorded once when kept, otherwise every time. */
  keepable(name: string, record: () => readonly Tensor[]): readonly Tensor[] {
    const memo = this.#memo;
    if (memo === undefined || !this.#checkpointing.keep.includes(name)) return record();
    const key = this.#scoped(name);
    const kept = memo.replay ? memo.store.get(key) : undefined;
    if (kept !== undefined) return kept;
    const tensors = record();
    memo.store.set(key, tensors);
    return tensors;
  }
}

function overlap(a: Tensor, b: Tensor): boolean {
  return a.owner === b.owner && a.byteOffset < b.byteOffset + b.bytes && b.byteOffset < a.byteOffset + a.bytes;
}
