/** Transformer forward and backward against PyTorch diffusers in float64, all five variants, with the project's own kernels. */
import assert from "node:assert/strict";
import { Executable } from "../../lib/gpu/executable.ts";
import { Session } from "../../lib/gpu/session.ts";
import { declareTensors, Parameters } from "../../lib/models/parameters.ts";
import {
  cropPositions,
  rotaryTables,
  scalarSinusoid,
  sincosTable,
  slicePositions,
  tokenGrid,
} from "../../lib/models/positions.ts";
import { transformer, type TransformerTrace } from "../../lib/models/transformer.ts";
import { innerDim, parameterShapes, positionTableShape, RELEASED } from "../../lib/models/transformer_config.ts";
import { declareInputs, uploadTables, uploadTimesteps } from "../../lib/models/transformer_inputs.ts";
import { checkTensors, uploadTensors } from "../../lib/models/weights.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { relativeL2, testDevice } from "../kernels/run.ts";
import { referenceTest } from "../reference.ts";
import { Golden, tinyTransformer } from "./golden.ts";

const VARIANTS = ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"];

interface Result {
  readonly output: Float32Array;
  readonly trace: ReadonlyMap<string, Float32Array>;
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

/** Runs one golden case with every parameter trainable, as the reference did: loss = sum(output * g). */
async function runCase(folder: string, variant: string, golden: Golden, crop: boolean): Promise<Result> {
  const { device } = await testDevice();
  using session = new Session(device);
  const { config, source } = tinyTransformer(folder, variant);
  using _closing = source;
  const shapes = parameterShapes(config);
  const table = positionTableShape(config);
  checkTensors(source, shapes, { where: variant, ignored: table === undefined ? [] : [table.name] });
  const tensors = declareTensors(shapes, { matrix: "f32", vector: "f32", trainable: true });
  await uploadTensors(session, source, tensors);
  const learned = table === undefined ? undefined : source.readF32(table.name);

  const [batch, frames, , height, width] = golden.shape("hidden_states") as [number, number, number, number, number];
  const shape = { batch, frames, height, width, textRows: golden.shape("encoder_hidden_states")[1]! };
  const inputs = declareInputs(config, shape, "f32", { needsGrad: true });
  session.write(inputs.latents, golden.f32("hidden_states"));
  session.write(inputs.text, golden.f32("encoder_hidden_states"));
  const grid = tokenGrid(config, frames, height, width);
  uploadTables(session, config, shape, inputs, {
    learned,
    positions: crop ? cropPositions(config, grid) : slicePositions(grid),
  });
  uploadTimesteps(session, inputs, golden.integers("timestep"));

  const plan = new Plan({ target: device.target });
  const trace: TransformerTrace = { blocks: [] };
  const output = transformer(plan, config, new Parameters(tensors), inputs, "f32", trace);
  const g = new Tensor("g", output.shape, "f32", { resident: true });
  session.write(g, golden.f32("g"));
  plan.backward(output, g);
  const wanted = new Map<string, Tensor>([["output", output]]);
  if (golden.has("temb")) {
    wanted.set("temb", trace.conditioning!).set("patch_embed", trace.embedded!).set("norm_out", trace.normalised!);
    trace.blocks.forEach((block, i) => wanted.set(`block.${i}`, block));
  }
  const gradients = new Map<string, Tensor>([
    ["hidden_states", plan.gradientOf(inputs.latents)!],
    ["encoder_hidden_states", plan.gradientOf(inputs.text)!],
  ]);
  for (const [name, tensor] of tensors) gradients.set(name, tensor.gradient!);
  for (const tensor of [...wanted.values(), ...gradients.values()]) plan.output(tensor);

  using executable = new Executable(session, finish(plan, session.limits));
  executable.run();
  const read = async (map: ReadonlyMap<string, Tensor>) => {
    const arrays = await executable.read([...map.values()]);
    return new Map([...map.keys()].map((name, i) => [name, new Float32Array(arrays[i]!)]));
  };
  const values = await read(wanted);
  return { output: values.get("output")!, trace: values, gradients: await read(gradients) };
}

for (const variant of VARIANTS) {
  referenceTest(
    `transformer ${variant} equals diffusers in output, inner results and every gradient`,
    async (folder) => {
      using golden = new Golden(`${folder}/transformer/${variant}.safetensors`);
      using expected = new Golden(`${folder}/transformer/${variant}.grads.safetensors`);
      const { output, trace, gradients } = await runCase(folder, variant, golden, false);
      const forward = relativeL2(output, golden.f32("output"));
      assert.ok(forward <= 1e-5, `output differs by ${forward}`);
      const textRows = golden.shape("encoder_hidden_states")[1]!;
      const [batch, , d] = golden.shape("patch_embed") as [number, number, number];
      for (const [name, value] of trace) {
        if (!name.startsWith("block.")) {
          const error = relativeL2(value, golden.f32(name));
          assert.ok(error <= 1e-5, `${name} differs by ${error}`);
          continue;
        }
        const text = golden.f32(`${name}.text`);
        const video = golden.f32(`${name}.video`);
        const joint = new Float32Array(value.length);
        for (let b = 0; b < batch; b++) {
          const sequence = value.length / batch;
          joint.set(text.subarray(b * textRows * d, (b + 1) * textRows * d), b * sequence);
          joint.set(
            video.subarray(b * video.length / batch, (b + 1) * video.length / batch),
            b * sequence + textRows * d,
          );
        }
        const error = relativeL2(value, joint);
        assert.ok(error <= 1e-5, `${name} differs by ${error}`);
      }
      const worst = compareGradients(gradients, golden, expected, variant);
      assert.ok(worst <= 1e-4, `worst gradient differs by ${worst}`);
    },
  );
}

/** Largest relative distance over all gradients; stored gradients of big tensors hold every eighth row only. */
function compareGradients(
  gradients: ReadonlyMap<string, Float32Array>,
  golden: Golden,
  expected: Golden,
  variant: string,
): number {
  let worst = 0;
  for (const [name, value] of gradients) {
    if (golden.has(`grad_input.${name}`)) {
      const error = relativeL2(value, golden.f32(`grad_input.${name}`));
      assert.ok(error <= 1e-4, `gradient of ${name} differs by ${error}`);
      worst = Math.max(worst, error);
      continue;
    }
    // Without rotary positions a constant added to every key changes nothing: the exact gradient is zero.
    if (variant === "2b" && name.endsWith("norm_k.bias")) continue;
    const stored = expected.f32(`grad.${name}`);
    const rows = expected.shape(`grad.${name}`)[0]!;
    const rowLength = stored.length / rows;
    const stride = value.length === stored.length ? 1 : 8;
    const taken = new Float32Array(stored.length);
    for (let r = 0; r < rows; r++) {
      taken.set(value.subarray(r * stride * rowLength, (r * stride + 1) * rowLength), r * rowLength);
    }
    const error = relativeL2(taken, stored);
    assert.ok(error <= 1e-4, `gradient of ${name} differs by ${error}`);
    const norm = Math.sqrt(value.reduce((sum, x) => sum + x * x, 0));
    const expectedNorm = expected.f64(`norm.${name}`)[0]!;
    assert.ok(
      Math.abs(norm - expectedNorm) <= 1e-4 * expectedNorm,
      `norm of the gradient of ${name}: ${norm}, ${expectedNorm}`,
    );
    worst = Math.max(worst, error);
  }
  return worst;
}

for (const file of [...VARIANTS.map((variant) => `${variant}.long`), "5b.crop"]) {
  referenceTest(`transformer ${file} equals diffusers`, async (folder) => {
    using golden = new Golden(`${folder}/transformer/${file}.safetensors`);
    const variant = file.replace(/\.(long|crop)$/, "");
    const { output, gradients } = await runCase(folder, variant, golden, file.endsWith("crop"));
    const error = relativeL2(output, golden.f32("output"));
    assert.ok(error <= 1e-5, `output differs by ${error}`);
    for (const name of ["hidden_states", "encoder_hidden_states"]) {
      if (!golden.has(`grad_input.${name}`)) continue;
      const distance = relativeL2(gradients.get(name)!, golden.f32(`grad_input.${name}`));
      assert.ok(distance <= 1e-4, `gradient of ${name} differs by ${distance}`);
    }
  });
}

referenceTest("position tables equal the library's", (folder) => {
  using golden = new Golden(`${folder}/transformer/tables.safetensors`);
  const config = { ...RELEASED["2b"]!, num_attention_heads: 2, sample_height: 8, sample_width: 12 };
  assert.equal(innerDim(config), 128);
  for (const name of golden.names) {
    const [kind, ...rest] = name.split(".");
    const size = rest.find((part) => part.includes("x"));
    const [frames, rows, columns] = (size ?? "0x0x0").split("x").map(Number) as [number, number, number];
    const grid = { frames, rows, columns };
    if (kind === "rope") {
      const tables = rotaryTables(rest[0] === "crop" ? cropPositions(config, grid) : slicePositions(grid));
      assert.ok(relativeL2(tables[rest[2] as "cos" | "sin"], golden.f32(name)) < 1e-6, name);
    } else if (kind === "sincos") {
      assert.ok(relativeL2(sincosTable(config, grid), golden.f32(name)) < 1e-6, name);
    } else if (kind === "timestep_embedding") {
      const width = Number(rest[0]);
      const expected = golden.f32(name);
      golden.integers("timesteps").forEach((t, i) => {
        const row = expected.subarray(i * width, (i + 1) * width);
        // A frequency that differs in its last f32 place turns the angle by 6e-5 at timestep 999.
        assert.ok(relativeL2(scalarSinusoid(t, width), row) < 1e-5, `${name} at ${t}`);
      });
    }
  }
});
