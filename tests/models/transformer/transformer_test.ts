/** Transformer forward and backward against PyTorch diffusers in float64, all five variants, with the project's own kernels. */
import assert from "node:assert/strict";
import {
  cropPositions,
  rotaryTables,
  scalarSinusoid,
  sincosTable,
  slicePositions,
} from "../../../lib/models/transformer/positions.ts";
import { innerDim, parameterShapes, RELEASED } from "../../../lib/models/transformer/config.ts";
import { relativeL2 } from "../../kernels/run.ts";
import { referenceTest } from "../../reference.ts";
import { Golden } from "../golden.ts";
import { forwardDistances, gradientDistances, runTransformer, worst } from "./case.ts";

const VARIANTS = ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"];

for (const variant of VARIANTS) {
  referenceTest(
    `transformer ${variant} equals diffusers in output, inner results and every gradient`,
    async (folder) => {
      using golden = new Golden(`${folder}/transformer/${variant}.safetensors`);
      using expected = new Golden(`${folder}/transformer/${variant}.grads.safetensors`);
      const result = await runTransformer(`${folder}/pipelines/tiny-${variant}`, golden);
      const forward = forwardDistances(result, golden);
      assert.equal(forward.length, 6, "output, temb, patch_embed, norm_out, two blocks");
      assert.ok(worst(forward).error <= 1e-5, JSON.stringify(worst(forward)));
      const gradients = gradientDistances(result, golden, expected);
      // Every parameter (but norm_k.bias of both blocks of 2b) by elements and norm, and both inputs.
      const parameters = parameterShapes(result.config).size - (variant === "2b" ? 2 : 0);
      assert.equal(gradients.length, 2 * parameters + 2);
      assert.ok(worst(gradients).error <= 1e-4, JSON.stringify(worst(gradients)));
    },
  );
}

for (const file of [...VARIANTS.map((variant) => `${variant}.long`), "5b.crop"]) {
  referenceTest(`transformer ${file} equals diffusers`, async (folder) => {
    using golden = new Golden(`${folder}/transformer/${file}.safetensors`);
    const variant = file.replace(/\.(long|crop)$/, "");
    const result = await runTransformer(`${folder}/pipelines/tiny-${variant}`, golden, { crop: file.endsWith("crop") });
    const forward = worst(forwardDistances(result, golden));
    assert.ok(forward.error <= 1e-5, JSON.stringify(forward));
    const gradients = gradientDistances(result, golden);
    if (gradients.length > 0) assert.ok(worst(gradients).error <= 1e-4, JSON.stringify(worst(gradients)));
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
