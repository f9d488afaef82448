import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Session } from "../../../lib/gpu/session.ts";
import { openVae, posteriorOf, samplePosterior, type VaeOptions } from "../../../lib/models/vae/vae.ts";
import { chunkSpans, forecastVae, outputFrames } from "../../../lib/models/vae/chunks.ts";
import { parseVaeConfig, RELEASED_VAE, vaeParameterShapes } from "../../../lib/models/vae/config.ts";
import { defaultTiling, tileGrid } from "../../../lib/models/vae/tiling.ts";
import type { Volume } from "../../../lib/models/vae/volume.ts";
import { cost } from "../../../lib/plan/recording.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import {
  caseName,
  casesOf,
  pipelineFor,
  pipelineOf,
  type ReferenceCase,
  referenceCases,
  referencePath,
} from "../../reference.ts";
import { Golden } from "../golden.ts";
import { goldenVolume, plainVideo, runVae } from "./case.ts";

/** f32 against float64; the library's own f32 differs by up to 1.7e-6. */
const TOLERANCE = 1e-5;

function close(what: string, actual: Volume, expected: Volume, tolerance = TOLERANCE): void {
  assert.deepEqual(actual.shape, expected.shape, what);
  const error = relativeL2(actual.data, expected.data);
  assert.ok(error <= tolerance, `${what}: relative error ${error} above ${tolerance}`);
}

/** Checks whatever a case holds: encoding, sampling, decoding, for every sample of its batch. */
async function check(
  stored: ReferenceCase,
  options: Omit<VaeOptions, "tiling"> = {},
  tolerance = TOLERANCE,
): Promise<void> {
  for (const { what, error } of await runVae(stored, options)) {
    assert.ok(error <= tolerance, `${caseName(stored)} ${what}: ${error} above ${tolerance}`);
  }
}

/** Everything that went through the autoencoder, tiled or not. */
const CASES = casesOf("vae", "logvar").filter(({ config }) => config.pipeline !== undefined);

for (const stored of CASES) {
  Deno.test(`the autoencoder matches diffusers on ${caseName(stored)}`, () => check(stored));
}

Deno.test("even numbers of latents decode to four frames each", async () => {
  const stored = referenceCases.get("vae/decode-even.safetensors")!;
  const { device } = await testDevice();
  using session = new Session(device);
  using file = new Golden(referencePath(stored.file));
  using vae = openVae(session, pipelineOf(stored));
  for (const name of stored.tensors.filter((name) => name.startsWith("latent."))) {
    const decoded = goldenVolume(file, name.replace("latent", "decoded"));
    close(name, await vae.decode(goldenVolume(file, name)), decoded);
  }
});

Deno.test("work cut into small bindings gives the same result", async () => {
  const { stored, frameBytes } = plainVideo();
  // Two frames of the largest level, so windows of three frames are split as well; then what holds a window.
  await check(stored, { bindingBytes: 2 * frameBytes });
  await check(stored, { bindingBytes: 5 * frameBytes });
});

Deno.test("half precision storage stays within its rounding", async () => {
  const { stored } = plainVideo();
  await check(stored, { dtype: "f16" }, 1e-2);
  await check(stored, { dtype: "bf16" }, 6e-2);
});

Deno.test("log-variances are clamped and samples drawn as in diffusers", () => {
  using file = new Golden(referencePath("vae/posterior.safetensors"));
  const posterior = posteriorOf(goldenVolume(file, "moments"));
  assert.deepEqual(posterior.mean, goldenVolume(file, "mean"));
  assert.deepEqual(posterior.logvar, goldenVolume(file, "logvar"));
  close("sample", samplePosterior(posterior, goldenVolume(file, "noise").data), goldenVolume(file, "sample"), 1e-7);
});

Deno.test("a run leaves nothing on the device once the autoencoder is disposed", async () => {
  const [stored] = CASES;
  const { device } = await testDevice();
  using session = new Session(device);
  using file = new Golden(referencePath(stored!.file));
  const vae = openVae(session, pipelineOf(stored!));
  const first = await vae.encode(goldenVolume(file, "video"));
  vae.unload();
  assert.equal(session.allocatedBytes, 0);
  const second = await vae.encode(goldenVolume(file, "video"));
  assert.deepEqual(second, first, "unloading and loading again gives the same bits");
  vae[Symbol.dispose]();
  assert.equal(session.allocatedBytes, 0);
});

Deno.test("weights that do not fit are listed together", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  const model = mkdtempSync(join(tmpdir(), "vae-"));
  try {
    const source = join(pipelineFor("5b"), "vae");
    Deno.mkdirSync(join(model, "vae"));
    const weights = readFileSync(join(source, "diffusion_pytorch_model.safetensors"));
    writeFileSync(join(model, "vae/diffusion_pytorch_model.safetensors"), weights);
    const config = JSON.parse(readFileSync(join(source, "config.json"), "utf8"));
    const [width] = config.block_out_channels as [number];
    const write = (changes: object) =>
      writeFileSync(join(model, "vae/config.json"), JSON.stringify({ ...config, ...changes }));
    write({ in_channels: 4, out_channels: 1 });
    assert.throws(() => openVae(session, model), (error: Error) => {
      assert.match(error.message, /3 problems/);
      const convolution = `"encoder.conv_in.conv.weight" has shape [${width},3,3,3,3]: expected [${width},4,3,3,3]`;
      assert.ok(error.message.includes(convolution), error.message);
      assert.match(error.message, /decoder\.conv_out\.conv\.bias" has shape \[3\]: expected \[1\]/);
      return true;
    });
    write({ layers_per_block: 2 });
    assert.throws(() => openVae(session, model), (error: Error) => {
      return error.message.includes(`missing "encoder.down_blocks.0.resnets.1.norm1.weight" [${width}]`);
    });
    write({ use_quant_conv: true, act_fn: "gelu" });
    assert.throws(() => openVae(session, model), /2 problems[\s\S]*act_fn is "gelu"[\s\S]*use_quant_conv is true/);
  } finally {
    rmSync(model, { recursive: true });
  }
});

Deno.test("videos of impossible sizes are refused", async () => {
  const { device } = await testDevice();
  using session = new Session(device);
  using vae = openVae(session, pipelineFor("5b"));
  await assert.rejects(
    vae.encode({ data: new Float32Array(3 * 20 * 16), shape: [3, 1, 20, 16] }),
    /shape \[3,1,20,16\].*multiples of 8/,
  );
  await assert.rejects(
    vae.encode({ data: new Float32Array(5), shape: [3, 1, 16, 16] }),
    /5 numbers, expected 768/,
  );
  await assert.rejects(
    vae.decode({ data: new Float32Array(8), shape: [8, 1, 1, 1] }),
    /expected \[16, frames, height, width\]/,
  );
});

Deno.test("the released autoencoder has the parameters of the paper's code", () => {
  const totals: Record<string, number> = { encoder: 0, decoder: 0 };
  for (const [name, shape] of vaeParameterShapes(RELEASED_VAE)) {
    totals[name.split(".")[0]!]! += shape.reduce((a, b) => a * b, 1);
  }
  assert.deepEqual(totals, { encoder: 92_215_456, decoder: 123_368_451 });
});

Deno.test("a config with several mistakes names all of them", () => {
  const json = { block_out_channels: "wide", norm_num_groups: 48, layers_per_block: "3", _class_name: "AutoencoderKL" };
  assert.throws(() => parseVaeConfig(json, "vae/config.json"), (error: Error) => {
    for (const part of ["_class_name", "block_out_channels is", "layers_per_block", "holds 128"]) {
      assert.ok(error.message.includes(part), `${part} in ${error.message}`);
    }
    return true;
  });
});

Deno.test("chunks and frame counts follow the published tables", () => {
  const encode: [number, number[], number][] = [
    [1, [1], 1],
    [5, [5], 2],
    [8, [8], 2],
    [9, [9], 3],
    [13, [13], 4],
    [16, [8, 8], 4],
    [17, [9, 8], 5],
    [25, [9, 8, 8], 7],
    [49, [9, 8, 8, 8, 8, 8], 13],
    [161, [9, ...new Array(19).fill(8)], 41],
  ];
  const decode: [number, number[], number][] = [
    [1, [1], 1],
    [2, [2], 8],
    [3, [3], 9],
    [4, [2, 2], 16],
    [5, [3, 2], 17],
    [13, [3, 2, 2, 2, 2, 2], 49],
    [22, new Array(11).fill(2), 88],
  ];
  for (const [part, table] of [["encoder", encode], ["decoder", decode]] as const) {
    for (const [total, chunks, result] of table) {
      const lengths = chunkSpans(RELEASED_VAE, part, total).map(([from, to]) => to - from);
      assert.deepEqual(lengths, chunks, `${part} ${total}`);
      assert.equal(lengths.reduce((sum, n) => sum + outputFrames(RELEASED_VAE, part, n), 0), result);
    }
  }
});

Deno.test("tiles of real sizes start where diffusers cuts them", () => {
  const tiling = defaultTiling(RELEASED_VAE);
  const encode = tileGrid(RELEASED_VAE, "encoder", [480, 720], tiling)!;
  assert.deepEqual(encode.rows.spans, [[0, 240], [200, 440], [400, 480]]);
  assert.deepEqual(encode.columns.spans, [[0, 360], [288, 648], [576, 720]]);
  assert.deepEqual([encode.rows.blend, encode.columns.blend, encode.rows.keep, encode.columns.keep], [5, 9, 25, 36]);
  const decode = tileGrid(RELEASED_VAE, "decoder", [96, 170], tiling)!;
  assert.deepEqual(decode.rows.spans, [[0, 30], [25, 55], [50, 80], [75, 96]]);
  assert.deepEqual(decode.columns.spans, [[0, 45], [36, 81], [72, 117], [108, 153], [144, 170]]);
  assert.deepEqual([decode.rows.blend, decode.columns.blend, decode.rows.keep, decode.columns.keep], [
    40,
    72,
    200,
    288,
  ]);
  assert.equal(tileGrid(RELEASED_VAE, "encoder", [240, 360], tiling), undefined, "one tile is not cut");
  assert.throws(() => tileGrid(RELEASED_VAE, "encoder", [404, 720], tiling), /rest of 4 pixels from 400 on/);
  assert.throws(
    () => tileGrid(RELEASED_VAE, "encoder", [480, 720], { ...tiling, overlapHeight: 1 }),
    /tiles would not advance/,
  );
});

Deno.test("released sizes are forecast without a device and stay below a few GiB", () => {
  for (
    const [part, size, runs] of [["encoder", [49, 480, 720], 54], ["decoder", [21, 96, 170], 200]] as const
  ) {
    const forecast = forecastVae(RELEASED_VAE, part, size);
    assert.equal(forecast.reduce((sum, chunk) => sum + chunk.runs, 0), runs);
    const peak = Math.max(...forecast.map(({ recording }) => {
      const { arenaBytes, residentBytes } = cost(recording);
      return arenaBytes + residentBytes;
    }));
    assert.ok(peak < 4.5 * 2 ** 30, `${part} peak ${peak}`);
    for (const { recording } of forecast) {
      for (const { tensors } of recording.steps) for (const { bytes } of tensors) assert.ok(bytes <= 2 ** 27);
    }
  }
});
