/** One problem on the device: its operands filled with noise, its variants run on them, timed and compared. */
import type { DType, Problem, Work } from "../../kernels/core/kernel.ts";
import { noise, repeated } from "../../kernels/rows/noise.ts";
import { Executable } from "../gpu/executable.ts";
import type { Session } from "../gpu/session.ts";
import { decodeF32, type StorageType } from "../io/safetensors/half.ts";
import { Plan } from "../plan/plan.ts";
import { finish } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";

/**
 * Stretches of a result that are compared, and bytes of each: enough to meet every workgroup's share of a large one.
 */
const STRETCHES = 64;
const STRETCH_BYTES = 4096;

/** What one operand held, as f32, and how it is stored. */
export interface Result {
  readonly name: string;
  readonly dtype: DType;
  readonly values: Float32Array;
}

/** A problem with operands of its own. Dispose it to free them. */
export class Trial implements Disposable {
  readonly #operands: Readonly<Record<string, Tensor>>;

  constructor(readonly session: Session, readonly problem: Problem) {
    const sizes = problem.operands();
    const buffers = problem.work(problem.twin).launches.flatMap(({ launch }) => launch.kernel.buffers);
    this.#operands = Object.fromEntries(
      Object.entries(sizes).map(([name, elements]) => {
        const { dtype } = buffers.find((buffer) => buffer.name === name)!;
        return [name, new Tensor(name, [elements], dtype, { resident: true })];
      }),
    );
  }

  /** What a variant leaves in the operands it writes, started from the same noise every time. */
  async results(variant: string): Promise<Result[]> {
    const work = this.problem.work(variant);
    await this.#run((plan) => {
      Object.values(this.#operands).forEach((tensor, seed) => {
        const [spec, elements] = [{ y: tensor.dtype as Exclude<DType, "u32"> }, tensor.size];
        const values = this.problem.constants[tensor.name];
        const fill = values === undefined ? noise(spec, { elements, seed }) : repeated(spec, { elements, values });
        plan.launch(fill, [tensor], [tensor]);
      });
      recordWork(plan, work, this.#operands);
    });
    const written = new Set(work.launches.flatMap(({ writes }) => writes));
    const tensors = Object.values(this.#operands).filter(({ name }) => written.has(name));
    const read = await this.session.readRanges(tensors.map((tensor) => this.#stretches(tensor)));
    return tensors.map(({ name, dtype }, i) => ({
      name,
      dtype,
      values: decodeF32(new Uint8Array(read[i]!), dtype as StorageType),
    }));
  }

  /** Ranges of a result spread evenly over it: whole results of a large problem would take seconds to read. */
  #stretches(tensor: Tensor) {
    const { bytes } = tensor;
    if (bytes <= STRETCHES * STRETCH_BYTES) return this.session.ranges(tensor);
    return Array.from({ length: STRETCHES }, (_, i) => {
      const at = Math.floor(i * (bytes - STRETCH_BYTES) / (STRETCHES - 1) / 4) * 4;
      return this.session.ranges(tensor, at, STRETCH_BYTES);
    }).flat();
  }

  /** Milliseconds of one of `repeats` runs of a variant in a row. */
  async milliseconds(variant: string, repeats: number): Promise<number> {
    const work = this.problem.work(variant);
    const plan = this.#plan((plan) => {
      for (let i = 0; i < repeats; i++) recordWork(plan, work, this.#operands);
    });
    using executable = new Executable(this.session, finish(plan, this.session.limits));
    const { device } = this.session;
    if (!device.timestamps) {
      const started = performance.now();
      await executable.run();
      await this.#settle();
      return (performance.now() - started) / repeats;
    }
    const timeline = device.watch();
    try {
      await executable.run();
    } finally {
      device.timeline = undefined;
    }
    const launches = await timeline.launches();
    return launches.reduce((sum, { begin, end }) => sum + end - begin, 0) / repeats;
  }

  #plan(record: (plan: Plan) => void): Plan {
    const plan = new Plan({ target: this.session.device.target });
    record(plan);
    return plan;
  }

  async #run(record: (plan: Plan) => void): Promise<void> {
    using executable = new Executable(this.session, finish(this.#plan(record), this.session.limits));
    await executable.run();
    await this.#settle();
  }

  /** Waits until the device has done everything. */
  async #settle(): Promise<void> {
    await this.session.device.gpu.queue.onSubmittedWorkDone();
  }

  [Symbol.dispose](): void {
    for (const tensor of Object.values(this.#operands)) this.session.free(tensor);
  }
}

/**
 * Relative L2 distance that results may have which differ in the order of their sums, and in rounding to 11 bits where
 * mixed.
 */
function allowed({ dtype }: Result, mixed: boolean): number {
  if (dtype === "bf16") return 2 ** -6;
  return dtype === "f16" || mixed ? 2 ** -9 : 1e-5;
}

/** What is wrong with the results of a variant against those of another; undefined when they agree. */
export function difference(
  results: readonly Result[],
  expected: readonly Result[],
  mixed: boolean,
): string | undefined {
  for (const [i, result] of results.entries()) {
    const other = expected[i]!.values;
    let squares = 0;
    let norm = 0;
    result.values.forEach((value, at) => {
      squares += (value - other[at]!) ** 2;
      norm += other[at]! ** 2;
    });
    const distance = Math.sqrt(squares / Math.max(norm, 1e-30));
    // NaN is no distance that is allowed either.
    if (!(distance <= allowed(result, mixed))) return `"${result.name}" is ${distance.toPrecision(2)} off`;
  }
}

/** Text of everything that a problem's variants run: what a measurement is good for. */
export function textsOf(problem: Problem): string {
  const text = ({ launches }: Work) => launches.map(({ launch: { kernel, grid } }) => `${kernel.code}${grid}`);
  return problem.candidates().flatMap((name) => [name, ...text(problem.work(name))]).join("\n");
}
