/** Stage `sampling ...`, `MODEL BLOCKS`: steps of the sampler at full shape with random weights, guidance included. */
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { isImageToVideo, latentSize, type ModelVariant, RELEASED } from "../../lib/models/transformer/config.ts";
import { declareTensors, Parameters } from "../../lib/models/transformer/parameters.ts";
import { parameterShapes } from "../../lib/models/transformer/config.ts";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { dpmSteps } from "../../lib/diffusion/dpm.ts";
import { spaceTimesteps } from "../../lib/diffusion/timesteps.ts";
import { namedModel } from "../../lib/models/folder/named_model.ts";
import { cost } from "../../lib/plan/recording.ts";
import { Denoiser, recordDenoise } from "../../lib/sample/denoise.ts";
import { drawWeights } from "../../lib/step/random_weights.ts";
import { noiseOnHost } from "../../kernels/rows/noise.ts";
import { engine } from "../../tests/engine.ts";
import { bytesSince, driverBytes } from "./driver.ts";
import { rounded } from "./results.ts";
import { clipOf } from "./shapes.ts";
import { attempt, stageArguments } from "./stage.ts";

const [model, blocks] = stageArguments as [ModelVariant, string];

/** Steps that are made: the first one compiles. */
const STEPS = 3;

await attempt(`sampler step of ${model}, ${blocks} blocks`, {}, async () => {
  const before = driverBytes();
  using device = await openDevice({ engine, mixed: true });
  using session = new Session(device);
  const config = { ...RELEASED[model], num_layers: Number(blocks) };
  const { frames, padding, height, width } = latentSize(config, clipOf(model));
  const textRows = config.max_text_seq_length;
  const activation = model.endsWith("2b") ? "f16" : "bf16";
  const tensors = declareTensors(parameterShapes(config), { matrix: activation, vector: "f32", streamed: false });
  const recording = recordDenoise(device.target, session.limits, {
    model: config,
    shape: { frames: frames + padding, height, width, textRows },
    activation,
    guidance: "sequential",
    stochastic: true,
  }, new Parameters(tensors));
  await drawWeights(session, 0, tensors);
  using denoiser = new Denoiser(session, recording);
  const latents = recording.latents.size;
  const draw = (elements: number, seed: number) => noiseOnHost({ elements, seed, scale: Math.sqrt(12) });
  const alphas = alphasCumprod(parseScheduleConfig(namedModel(model).scheduler, model));
  const steps = dpmSteps(alphas, spaceTimesteps(STEPS, "trailing", alphas.length));
  const start = {
    latents: draw(latents, 0),
    prompt: draw(textRows * config.text_embed_dim, 1),
    negative: draw(textRows * config.text_embed_dim, 2),
    condition: isImageToVideo(config) ? draw(latents, 3) : undefined,
    noise: (step: number) => draw(latents, 4 + step),
  };
  const seconds: number[] = [];
  let begin = performance.now();
  for await (const _ of denoiser.run(steps, start, { scales: steps.map(() => 6) })) {
    seconds.push((performance.now() - begin) / 1000);
    begin = performance.now();
  }
  const finite = (await denoiser.read()).every(Number.isFinite);
  const { flops } = cost(recording.model);
  const best = Math.min(...seconds);
  return {
    seconds: rounded(best),
    first_seconds: rounded(seconds[0]!),
    tflop: rounded(2 * flops / 1e12),
    tflops: rounded(2 * flops / 1e12 / best),
    finite,
    gpu_bytes: session.allocatedBytes,
    driver_bytes: bytesSince(before),
  };
});
Deno.exit(0);
