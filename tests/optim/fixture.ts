/** Small trainables in two buckets with every kind of padding, and the update plan of an optimizer over them. */
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { type PackOptions, packTrainables, type Trainables } from "../../lib/models/tensors/trainables.ts";
import { writeValues } from "../../lib/models/tensors/weights.ts";
import { finish, type Recording } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import {
  declareOptimizer,
  initialiseOptimizer,
  type OptimizerConfig,
  type OptimizerTensors,
  recordUpdate,
  uploadState,
} from "../../lib/optim/update.ts";
import type { StepScalars } from "../../lib/optim/rule.ts";
import { numbers, testDevice } from "../kernels/run.ts";

export type Values = Float32Array<ArrayBuffer>;

/** The recipe's settings, without clipping. */
export const RECIPE: OptimizerConfig = {
  optimizer: "adamw",
  beta1: 0.9,
  beta2: 0.95,
  beta3: 0.98,
  epsilon: 1e-8,
  weight_decay: 1e-4,
  max_grad_norm: 0,
  ema_decay: 0,
};

/** True and stored shapes: padded in both axes, a vector, an adapter of rank 3, a folded convolution with a 2 x 2 window. */
const SHAPES: Readonly<Record<string, readonly [readonly number[], readonly number[]]>> = {
  matrix: [[6, 5], [8, 8]],
  vector: [[7], [8]],
  lora_b: [[5, 3], [5, 4]],
  conv: [[3, 2, 2, 2], [3, 8]],
};

export const NAMES: readonly string[] = Object.keys(SHAPES);

/** Numbers of a tensor's true shape, the same in every run. */
export function trueNumbers(name: string, seed: number): Values {
  return numbers(SHAPES[name]![0].reduce((a, b) => a * b), seed + NAMES.indexOf(name));
}

function padded(values: Values, name: string): Values {
  const [trueShape, stored] = SHAPES[name]!;
  const width = stored.at(-1)!;
  const columns = trueShape.length === 4 ? width : trueShape.at(-1)!;
  const result = new Float32Array(stored.reduce((a, b) => a * b));
  values.forEach((value, i) => result[Math.floor(i / columns) * width + i % columns] = value);
  return result;
}

function cropped(values: Values, name: string): Values {
  const [trueShape, stored] = SHAPES[name]!;
  const width = stored.at(-1)!;
  const columns = trueShape.length === 4 ? width : trueShape.at(-1)!;
  const size = trueShape.reduce((a, b) => a * b);
  return Float32Array.from({ length: size }, (_, i) => values[Math.floor(i / columns) * width + i % columns]!);
}

function pack(names: readonly string[], working: "f32" | "bf16", options: PackOptions): Trainables {
  const shapes = (which: 0 | 1) => new Map(names.map((name) => [name, SHAPES[name]![which]]));
  return packTrainables(shapes(1), working, { trueShapes: shapes(0), ...options });
}

/** Two buckets as one set. */
export function twoBuckets(working: "f32" | "bf16" = "f32", options: PackOptions = {}): Trainables {
  const parts = [pack(NAMES.slice(0, 2), working, options), pack(NAMES.slice(2), working, options)];
  return {
    buckets: parts.flatMap(({ buckets }) => buckets),
    byName: new Map(parts.flatMap(({ byName }) => [...byName])),
  };
}

/** An optimizer over {@linkcode twoBuckets} on the test device. */
export class Updater implements Disposable {
  readonly session: Session;
  readonly optimizer: OptimizerTensors;
  readonly recording: Recording;
  readonly #executable: Executable;
  readonly #loss = new Tensor("loss", [4], "f32", { resident: true });

  private constructor(session: Session, readonly config: OptimizerConfig, readonly trainables: Trainables) {
    const { buckets } = trainables;
    this.session = session;
    this.optimizer = declareOptimizer(config, buckets);
    const plan = recordUpdate(session.device.target, config, buckets, this.optimizer, this.#loss);
    this.recording = finish(plan, session.limits);
    this.#executable = new Executable(session, this.recording);
  }

  /** Starts from masters by name. */
  static async start(
    config: Partial<OptimizerConfig>,
    masters: (name: string) => Values,
    trainables: Trainables = twoBuckets(),
  ): Promise<Updater> {
    const { device } = await testDevice();
    const updater = new Updater(new Session(device), { ...RECIPE, ...config }, trainables);
    for (const [name, { master }] of trainables.byName) {
      writeValues(updater.session, master, padded(masters(name), name));
    }
    await initialiseOptimizer(updater.session, trainables.buckets, updater.optimizer);
    return updater;
  }

  /** One update with gradients by name. */
  async step(
    gradients: (name: string) => Values,
    scalars: Omit<StepScalars, "lossScale">,
    lossScale = 1,
  ): Promise<void> {
    for (const [name, { working }] of this.trainables.byName) {
      this.session.write(working.gradient!, padded(gradients(name), name));
    }
    uploadState(this.session, this.optimizer, { ...scalars, lossScale });
    await this.#executable.run();
  }

  /** A master as it is in the model. */
  async master(name: string): Promise<Values> {
    return cropped(await this.session.readF32(this.trainables.byName.get(name)!.master), name);
  }

  /** All masters, one after the other. */
  async masters(): Promise<Values> {
    const values: number[] = [];
    for (const name of NAMES) values.push(...await this.master(name));
    return Float32Array.from(values);
  }

  /** Everything a checkpoint holds, by name. */
  async saved(): Promise<Map<string, Uint32Array>> {
    const tensors = this.#saved();
    const bytes = await this.session.read([...tensors.values()]);
    return new Map([...tensors.keys()].map((name, i) => [name, new Uint32Array(bytes[i]!)]));
  }

  /** Uploads what {@linkcode saved} gave. */
  restore(saved: ReadonlyMap<string, Uint32Array>): void {
    for (const [name, tensor] of this.#saved()) this.session.write(tensor, saved.get(name) as Uint32Array<ArrayBuffer>);
  }

  #saved(): Map<string, Tensor> {
    const masters = this.trainables.buckets.map(({ values }, i) => [`values.${i}`, values] as const);
    return new Map([...masters, ...this.optimizer.states]);
  }

  [Symbol.dispose](): void {
    this.#executable[Symbol.dispose]();
    this.session[Symbol.dispose]();
  }
}
