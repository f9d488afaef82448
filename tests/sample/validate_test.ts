/** Sampling beside training state: it uses the weights it is given and needs less memory than the step it interrupts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Session } from "../../lib/gpu/session.ts";
import { type ModelFolder, openModelFolder } from "../../lib/models/folder/model_folder.ts";
import { declareLora, type Lora } from "../../lib/models/lora/adapters.ts";
import { Parameters } from "../../lib/models/transformer/parameters.ts";
import { parameterShapes, type TransformerConfig } from "../../lib/models/transformer/config.ts";
import type { BatchShape } from "../../lib/models/transformer/inputs.ts";
import { cost } from "../../lib/plan/recording.ts";
import { denoiseConfig } from "../../lib/sample/generate.ts";
import { recordStep, type StepConfig } from "../../lib/step/training_step.ts";
import { probe } from "../../lib/data/video/probe.ts";
import { loadTransformer } from "../../lib/sample/load_transformer.ts";
import { sampleOn } from "../../lib/sample/sample.ts";
import { defaultSettings, type SampleRequest, type SampleSettings } from "../../lib/sample/settings.ts";
import { prepareRequests } from "../../lib/sample/prepare.ts";
import {
  sampleValidation,
  validationNames,
  type ValidationOptions,
  type ValidationSample,
} from "../../lib/sample/validate.ts";
import { testDevice } from "../kernels/run.ts";
import { pipelineFor } from "../reference.ts";
import { RECIPE } from "../optim/fixture.ts";
import { LimitedSession } from "../limited_session.ts";
import { examples } from "../train/runs.ts";

/** Bytes that a checkpointed training step of the same shape frees with its arena. */
function trainingArena(
  session: Session,
  model: TransformerConfig,
  shape: BatchShape,
  parameters: Parameters,
  lora: Lora,
): number {
  const config: StepConfig = {
    model,
    shape,
    activation: "f32",
    checkpointing: { enabled: true, keep: [] },
    accumulation: 1,
    optimizer: RECIPE,
  };
  const { target } = session.device;
  const { micro } = recordStep(target, session.limits, config, parameters, lora.trainables.buckets);
  return cost(micro).arenaBytes;
}

/** Samples requests beside training state of a LoRA; `body` gets what it needs to do so. */
async function besideTraining(
  folder: string,
  requests: readonly SampleRequest[],
  body: (run: {
    readonly session: LimitedSession;
    readonly model: ModelFolder;
    readonly settings: SampleSettings;
    readonly lora: Lora;
    readonly base: Parameters;
    readonly trained: Parameters;
    readonly outputFolder: string;
    readonly sampleAll: (step: number, parameters: Parameters) => Promise<ValidationSample[]>;
  }) => Promise<void>,
): Promise<void> {
  const { device } = await testDevice();
  using session = new LimitedSession(device);
  const model = openModelFolder(folder);
  const small = { frames: 9, height: 32, width: 48, steps: 2, dtype: "f32" } as const;
  const settings: SampleSettings = { ...defaultSettings(model.transformer), ...small };
  const prepared = await prepareRequests(session, model, requests, settings);
  assert.equal(session.allocatedBytes, 0, "encoders must be gone before training state is allocated");
  const outputFolder = await Deno.makeTempDir();
  try {
    using base = await loadTransformer(session, model, { dtype: "f32" });
    const lora = declareLora(parameterShapes(model.transformer), { rank: 4, alpha: 2, targets: ["to_q", "to_v"] });
    for (const { values } of lora.trainables.buckets) session.write(values, new Float32Array(values.size).fill(0.03));
    const trained = new Parameters(base.parameters.tensors, lora.adapters);
    const sampleAll = async (step: number, parameters: Parameters) => {
      const names = validationNames(step, requests.map(({ prompt }) => prompt));
      const samples = [];
      for (const [i, entry] of prepared.requests.entries()) {
        const options: ValidationOptions = { parameters, activation: "f32", settings, fps: 8 };
        samples.push(await sampleValidation(session, model, entry, `${outputFolder}/${names[i]}`, options));
      }
      return samples;
    };
    await body({ session, model, settings, lora, base: base.parameters, trained, outputFolder, sampleAll });
  } finally {
    await Deno.remove(outputFolder, { recursive: true });
  }
}

Deno.test("sampleValidation() samples with the weights on the device and leaves them alone", async () => {
  const image = { data: new Uint8Array(32 * 48 * 3).fill(90), frames: 1, height: 32, width: 48 };
  const requests = ["a kite", "a kite", "a boat"].map((prompt, seed) => ({ prompt, seed, image }));
  await besideTraining(pipelineFor("1.5-5b-i2v"), requests, async (run) => {
    const { session, base, trained, outputFolder, sampleAll } = run;
    const before = session.allocatedBytes;
    const samples = await sampleAll(20, trained);
    assert.equal(session.allocatedBytes, before);
    assert.equal(new Set(samples.map(({ path }) => path)).size, 3);
    assert.deepEqual(samples.map(({ image }) => image), samples.map(({ path }) => path.replace(/mp4$/, "png")));
    for (const { path } of samples) assert.equal((await probe(path)).frames, 9);
    const files = [...Deno.readDirSync(outputFolder)].map(({ name }) => name);
    assert.equal(files.filter((name) => name.endsWith(".png")).length, 3);

    // The trained adapters must show: without them the video is another.
    const plain = await Deno.readFile(samples[0]!.path);
    const [other] = await sampleAll(40, base);
    assert.notDeepEqual(plain, await Deno.readFile(other!.path));
  });
});

Deno.test("sampleValidation() needs less memory than the training step that it interrupts", async () => {
  await besideTraining(join(examples, "tiny-2b"), [{ prompt: "a kite", seed: 0 }], async (run) => {
    const { session, model, settings, lora, trained, sampleAll } = run;
    const before = session.allocatedBytes;
    session.peakBytes = session.allocatedBytes;
    await sampleAll(20, trained);
    const onTop = session.peakBytes - before;
    const shape = { ...denoiseConfig(model, settings, "f32").shape, batch: 1 };
    const freed = trainingArena(session, model.transformer, shape, trained, lora);
    assert.ok(onTop <= freed, `${onTop} bytes on top, training frees ${freed}`);
  });
});

Deno.test("aborting ends sampling between two steps and frees everything", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const model = openModelFolder(pipelineFor("5b"));
  const settings = { ...defaultSettings(model.transformer), frames: 5, height: 16, width: 16, steps: 50 };
  const controller = new AbortController();
  let steps = 0;
  const run = async () => {
    for await (
      const event of sampleOn(session, model, [{ prompt: "p", seed: 0 }], { settings, signal: controller.signal })
    ) {
      if (event.type === "step" && ++steps === 2) controller.abort(new Error("stop"));
    }
  };
  await assert.rejects(run(), /stop/);
  assert.deepEqual([steps, session.allocatedBytes], [2, 0]);
});
