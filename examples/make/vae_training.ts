/** Gradient steps of the autoencoder, encoder and decoder at once, one clip at a time. */
import { RandomStream } from "../../lib/data/random/random.ts";
import { Arena, Executable } from "../../lib/gpu/executable.ts";
import type { Session } from "../../lib/gpu/session.ts";
import type { Trainables } from "../../lib/models/tensors/trainables.ts";
import type { VaeConfig } from "../../lib/models/vae/config.ts";
import { addGradient, addTensors } from "../../lib/ops/add.ts";
import { velocityLoss } from "../../lib/ops/velocity.ts";
import { learningRateMultiplier } from "../../lib/optim/learning_rate.ts";
import {
  declareOptimizer,
  initialiseOptimizer,
  type OptimizerConfig,
  recordUpdate,
  uploadState,
} from "../../lib/optim/update.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { VaeGraph, view } from "./vae_graph.ts";
import type { Grid } from "./vae_rows.ts";

/** Deviation of the noise added to latents, so that the decoder forgives what a denoiser leaves. */
const NOISE = 0.1;

/** Weight of the latents' mean square beside the squared error of the pixels: without it they grow until noise is nothing to them. */
const PENALTY = 2e-3;

const OPTIMIZER: OptimizerConfig = {
  optimizer: "adam",
  beta1: 0.9,
  beta2: 0.99,
  beta3: 0,
  epsilon: 1e-8,
  weight_decay: 0,
  max_grad_norm: 1,
  ema_decay: 0,
};

/** How the training goes. */
export interface Training {
  /** Frames, height and width of the clips. */
  readonly grid: Grid;
  readonly steps: number;
  /** Highest learning rate; it falls to 0 along a cosine. */
  readonly rate: number;
}

/** What a step reports: mean squared error of pixels in [-1, 1], and of the latents around 0. */
export interface TrainingStep {
  readonly step: number;
  readonly error: number;
  readonly latents: number;
}

/** Values [1, n] with the gradient of `PENALTY` times their mean square, scaled by the second of `coefficients`' weights. */
function penalised(plan: Plan, z: Tensor, zeros: Tensor, coefficients: Tensor, slot: Tensor): Tensor {
  const y = z.window(z.name, 0, z.shape, { needsGrad: true });
  return plan.differentiable(y, (g) => {
    plan.passOn(z, g, addGradient(plan));
    plan.contribute(z, (into) => addGradient(plan)(into, velocityLoss(plan, z, zeros, coefficients, slot)));
  });
}

/** Trains on the clips that `draw` gives, pixels [frames * height * width, 4]. */
export async function* trainAutoencoder(
  session: Session,
  config: VaeConfig,
  trainables: Trainables,
  { grid, steps, rate }: Training,
  draw: (index: number, grid: Grid) => Float32Array<ArrayBuffer>,
): AsyncGenerator<TrainingStep> {
  const { device: { target }, limits } = session;
  const plan = new Plan({ target });
  const graph = new VaeGraph(session, plan, config, (name) => {
    const weight = trainables.byName.get(`${name}.weight`);
    return weight && { weight: weight.working, bias: trainables.byName.get(`${name}.bias`)!.working };
  });
  const resident = (name: string, shape: readonly number[]) => new Tensor(name, shape, "f32", { resident: true });
  const pixels = resident("pixels", [grid[0] * grid[1] * grid[2], 4]);
  const encoded = graph.encode({ x: pixels, grid });
  const flat = [1, encoded.x.size];
  const [noise, zeros] = [resident("noise", encoded.x.shape), resident("zeros", flat)];
  const [ofPixels, ofLatents] = [resident("weight of pixels", [1, 4]), resident("weight of latents", [1, 4])];
  const [loss, penalty] = [resident("loss", [4]), resident("penalty", [4])];
  const z = penalised(plan, view(plan, encoded.x, flat), zeros, ofLatents, penalty);
  const decoded = graph.decode({ x: addTensors(plan, view(plan, z, noise.shape), noise), grid: encoded.grid });
  const y = view(plan, decoded.x, [1, pixels.size]);
  plan.backward(y, velocityLoss(plan, y, pixels.reshape(y.shape), ofPixels, loss));

  const { buckets } = trainables;
  const optimizer = declareOptimizer(OPTIMIZER, buckets);
  const update = recordUpdate(target, OPTIMIZER, buckets, optimizer, loss);
  await initialiseOptimizer(session, buckets, optimizer);
  const recordings = [finish(plan, limits), finish(update, limits)] as const;
  using arena = new Arena(session, recordings);
  using micro = new Executable(session, recordings[0], arena);
  using apply = new Executable(session, recordings[1], arena);
  // The fourth of the padded channels is always zero, so that it counts as a pixel without error.
  session.write(ofPixels, Float32Array.of(0, 0, 4 / 3, 4 / 3));
  session.write(ofLatents, Float32Array.of(0, 0, PENALTY, 1));
  session.write(zeros, new Float32Array(zeros.size));
  const schedule = {
    schedule: "cosine",
    warmupSteps: 50,
    totalSteps: steps,
    cycles: 1,
    power: 1,
    initialRate: rate,
  } as const;
  for (let step = 1; step <= steps; step++) {
    session.clear(buckets.map(({ gradients }) => gradients));
    session.write(pixels, draw(step, grid));
    const stream = new RandomStream({ seed: 1, purpose: "posterior", step: 0, sample: step });
    session.write(noise, stream.fillNormals(new Float32Array(noise.size)).map((value) => NOISE * value));
    await micro.run();
    uploadState(session, optimizer, {
      learningRate: rate * learningRateMultiplier(step, schedule),
      step,
      lossScale: 1,
    });
    await apply.run();
    const [error, latents] = (await session.read([loss, penalty])).map((bytes) => new Float32Array(bytes)[0]!);
    yield { step, error: error!, latents: latents! };
  }
}
