/** The lora commands as people type them. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { writeModules } from "../../../lib/models/lora/file.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { innerDim } from "../../../lib/models/transformer/config.ts";
import { openTransformer } from "../../../lib/models/transformer/file.ts";
import { relativeL2 } from "../../kernels/run.ts";
import { textLora } from "../../models/lora/stored.ts";
import { pipelineFor, referencePath } from "../../reference.ts";
import { cli } from "../fakes.ts";

const { stored, plain, meta, model, rank, alpha } = textLora();
const transformer = openModelFolder(model).transformer;
const width = innerDim(transformer);
/** Layers with an adapter: four in every block. */
const layers = 4 * transformer.num_layers;

/** A test with a folder of its own. */
function commandTest(name: string, body: (folder: string) => Promise<void>): void {
  Deno.test(name, async () => {
    const folder = mkdtempSync(join(tmpdir(), "lora-cli-"));
    try {
      await body(folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

commandTest("lora verify lists what matches and how far weights move", async () => {
  const { code, out, error } = await cli(["lora", "verify", meta, "--model-path", model]);
  assert.equal(code, 0, error);
  const blocks = `${transformer.num_layers} blocks?`;
  assert.match(out, new RegExp(`^Model: +CogVideoX-5B \\(width ${width}, ${blocks}\\) in `, "m"));
  assert.match(out, /^Trained on: not stored$/m);
  assert.match(out, new RegExp(`^Matched: +${layers} of ${layers} layers$`, "m"));
  assert.doesNotMatch(out, /Unmatched|Without/);
  using base = openTransformer(model);
  const { down, up } = readLora(meta).modules.get("transformer_blocks.0.attn1.to_v")!;
  let square = 0;
  for (let o = 0; o < width; o++) {
    for (let i = 0; i < width; i++) {
      let value = 0;
      for (let r = 0; r < rank; r++) value += up[o * rank + r]! * down[r * width + i]!;
      square += (value * alpha / rank) ** 2;
    }
  }
  const weight = base.source.readF32("transformer_blocks.0.attn1.to_v.weight").reduce((sum, x) => sum + x * x, 0);
  const percent = (100 * Math.sqrt(square / weight)).toPrecision(3);
  const row = [`transformer_blocks.0.attn1.to_v`, rank, alpha, (alpha / rank).toFixed(3), `${percent}%`].join(" +");
  assert.match(out, new RegExp(`^${row.replaceAll(".", "\\.")}$`, "m"));
  assert.equal(error, "");
});

commandTest("lora verify says what it takes for alpha, and fails when nothing changes", async (folder) => {
  const onModel = ["--model_path", model];
  const assumed = await cli(["lora", "verify", plain, ...onModel]);
  assert.equal(assumed.code, 0);
  assert.match(assumed.error, new RegExp(`does not state alpha; taking ${rank} .* give --alpha ${rank / 2}\n`));
  const given = await cli(["lora", "verify", plain, ...onModel, "--alpha", "0.25"]);
  const scale = (0.25 / rank).toFixed(3);
  assert.match(given.error, new RegExp(`alpha / rank is 0\\.25 / ${rank} = ${scale}: the LoRA hardly acts`));
  const { modules } = readLora(plain);
  const zero = new Map([...modules].map(([layer, module]) => [layer, { ...module, up: module.up.map(() => 0) }]));
  const path = await writeModules(join(folder, "zero.safetensors"), zero, { format: "diffusers" });
  const dead = await cli(["lora", "verify", path, ...onModel]);
  assert.equal(dead.code, 1);
  assert.match(dead.error, /changes nothing: every update is zero/);
  const far = new Map([["transformer_blocks.40.attn1.to_q", [...modules.values()][0]!]]);
  const other = await writeModules(join(folder, "far.safetensors"), far, { format: "kohya" });
  const missed = await cli(["lora", "verify", other, ...onModel]);
  assert.equal(missed.code, 1);
  assert.match(missed.out, /^Matched: +0 of 1 layers$/m);
  assert.match(missed.out, /^Unmatched: +transformer_blocks\.40\.attn1\.to_q$/m);
  assert.match(missed.error, /none of its layers is in the model/);
});

commandTest("every command refuses a LoRA of another model", async (folder) => {
  const lora = join(folder, "t2v.safetensors");
  const made = await cli(["lora", "export", meta, "--to", "diffusers", "--output", lora, "--model_path", model]);
  assert.equal(made.code, 0, made.error);
  const other = pipelineFor("5b-i2v");
  const output = join(folder, "merged");
  for (
    const words of [
      ["verify", lora, "--model_path", other],
      ["merge", lora, "--model_path", other, "--output", output],
      ["export", lora, "--model_path", other, "--output", output, "--to", "kohya"],
    ]
  ) {
    const { code, error } = await cli(["lora", ...words]);
    assert.equal(code, 2, words[0]!);
    assert.match(error, /t2v\.safetensors" was trained on CogVideoX-5B \(.*\), but ".*" is CogVideoX-5B-I2V \(/);
  }
  assert.equal(existsSync(output), false);
});

commandTest("lora merge, then lora extract, gives the update back", async (folder) => {
  const onModel = ["--model_path", model];
  const merged = join(folder, "merged");
  const fusedName = stored.tensors.find((name) => name.startsWith("plain.fused0."))!;
  const [, strength, name] = /^plain\.fused(0\.\d+)\.(.*)$/.exec(fusedName)!;
  const words = ["lora", "merge", plain, ...onModel, "--output", merged, `--strength=${strength}`];
  const merge = await cli(words);
  assert.equal(merge.code, 0, merge.error);
  assert.match(merge.out, new RegExp(`^Merged ${layers} layers at strength ${strength} into `));
  using golden = openTransformer(merged);
  using fused = openSafetensors(referencePath(stored.file));
  assert.ok(relativeL2(golden.source.readF32(name!), fused.readF32(fusedName)) < 3e-8);
  const again = await cli(words);
  assert.equal(again.code, 2);
  assert.match(again.error, /exists already/);

  const extracted = join(folder, "out.safetensors");
  const extract = await cli(["lora", "extract", merged, ...onModel, "--rank", `${rank}`, "--output", extracted]);
  assert.equal(extract.code, 0, extract.error);
  assert.match(extract.out, new RegExp(`${layers} layers of rank ${rank}, 0\\.00\\d+% of the change is missed`));
  const found = readLora(extracted);
  assert.deepEqual([found.base?.family, found.alpha, found.rank, found.alphaStored], ["5b", rank, rank, true]);
  const same = await cli([
    ...["lora", "extract", model, ...onModel, "--output", join(folder, "same.safetensors")],
    ...["--target-modules", "to_q,to_k"],
  ]);
  assert.equal(same.code, 1);
  assert.match(same.error, /have the same values in these layers/);
  const none = await cli([
    ...["lora", "extract", merged, ...onModel, "--output", join(folder, "x.safetensors"), "--target_modules", "to_x"],
  ]);
  assert.equal(none.code, 2);
  assert.match(none.error, /matches no linear layer: "to_x"/);
  assert.deepEqual(readdirSync(folder).sort(), ["merged", "out.safetensors"]);
});

commandTest("a LoRA survives a tour through all formats", async (folder) => {
  const first = readLora(meta);
  let path = first.path;
  for (const format of ["peft", "kohya", "comfyui", "diffusers"]) {
    const output = join(folder, format === "peft" ? format : `${format}.safetensors`);
    const { code, out, error } = await cli(["lora", "export", path, "--to", format, "--output", output]);
    assert.equal(code, 0, error);
    assert.match(out, new RegExp(`^Wrote .*: ${layers} layers, rank ${rank}, alpha ${alpha}\n$`));
    path = output;
  }
  const last = readLora(path);
  assert.deepEqual(new Map([...last.modules].sort()), new Map([...first.modules].sort()));
  const sat = join(folder, "sat.safetensors");
  const { out } = await cli(["lora", "export", path, "--to", "sat", "--output", sat]);
  assert.match(out, /alpha 1, B multiplied by the alpha there was/);
  const folded = readLora(sat).modules.get("transformer_blocks.0.attn1.to_v")!;
  assert.equal(folded.up[5], 2 * first.modules.get("transformer_blocks.0.attn1.to_v")!.up[5]!);
});

Deno.test("wrong flags of lora commands are explained", async () => {
  const unknown = await cli(["lora", "export", "x", "--to", "pickle", "--output", "y"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.error, /pickle/);
  const missing = await cli(["lora", "merge", "x"]);
  assert.equal(missing.code, 2);
  assert.match(missing.error, /model_path/);
  const bad = await cli(["lora", "verify", "x", "--model_path", "y", "--alpha", "-1"]);
  assert.equal(bad.code, 2);
  assert.match(bad.error, /no positive number/);
  const help = await cli(["lora", "export", "--help"]);
  assert.equal(help.code, 0);
  assert.match(help.out, /kohya +lora_unet__/);
});

commandTest("a file without a LoRA is named with what it holds", async (folder) => {
  const path = join(folder, "vae.safetensors");
  await writeSafetensors(path, [{
    name: "encoder.conv_in.weight",
    dtype: "F32",
    shape: [1],
    data: Float32Array.of(1),
  }]);
  const { code, error } = await cli(["lora", "verify", path, "--model_path", model]);
  assert.equal(code, 2);
  assert.match(
    error,
    /holds no LoRA for the CogVideoX transformer: it has 1 tensor of another kind: "encoder\.conv_in\.weight"/,
  );
});
