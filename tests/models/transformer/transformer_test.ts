/** Transformer forward and backward against PyTorch diffusers in float64, every stored case, with the project's own kernels. */
import assert from "node:assert/strict";
import {
  cropPositions,
  rotaryTables,
  scalarSinusoid,
  sincosTable,
  slicePositions,
} from "../../../lib/models/transformer/positions.ts";
import { parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";
import { relativeL2 } from "../../kernels/run.ts";
import { caseName, casesOf, pipelineOf, referencePath } from "../../reference.ts";
import { Golden } from "../golden.ts";
import { forwardDistances, gradientDistances, gradientsFile, runTransformer, worst } from "./case.ts";

for (const stored of casesOf("transformer", "output")) {
  Deno.test(`transformer ${caseName(stored)} equals diffusers in every stored result and gradient`, async () => {
    using golden = new Golden(referencePath(stored.file));
    const file = gradientsFile(stored);
    using expected = file === undefined ? undefined : new Golden(referencePath(file));
    const result = await runTransformer(pipelineOf(stored), golden);
    const forward = forwardDistances(result, golden);
    if (golden.has("temb")) assert.equal(forward.length, 4 + result.config.num_layers);
    assert.ok(worst(forward).error <= 1e-5, JSON.stringify(worst(forward)));
    const gradients = gradientDistances(result, golden, expected);
    // Both inputs, and every parameter by elements and norm, but those whose exact gradient is zero.
    const { config } = result;
    const zero = config.use_rotary_positional_embeddings ? 0 : config.num_layers;
    const parameters = expected === undefined ? 0 : parameterShapes(config).size - zero;
    assert.equal(gradients.length, 2 + 2 * parameters);
    assert.ok(worst(gradients).error <= 1e-4, JSON.stringify(worst(gradients)));
  });
}

Deno.test("position tables equal the library's", () => {
  using golden = new Golden(referencePath("transformer/tables.safetensors"));
  const { rope_crop_base_grid, sincos_dim, spatial_interpolation_scale } = golden.config as {
    rope_crop_base_grid: [number, number];
    sincos_dim: number;
    spatial_interpolation_scale: number;
  };
  const base = RELEASED["2b"]!;
  const [sample_height, sample_width] = rope_crop_base_grid.map((tokens) => tokens * base.patch_size) as [
    number,
    number,
  ];
  const num_attention_heads = sincos_dim / base.attention_head_dim;
  const config = { ...base, num_attention_heads, sample_height, sample_width, spatial_interpolation_scale };
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
