/** The lora commands as people type them. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { writeModules } from "../../../lib/models/lora/file.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { openTransformer } from "../../../lib/models/transformer/file.ts";
import { relativeL2 } from "../../kernels/run.ts";
import { referenceTest } from "../../reference.ts";
import { cli } from "../fakes.ts";

/** A test with the golden files and a folder of its own. */
function commandTest(name: string, body: (reference: string, folder: string) => Promise<void>): void {
  referenceTest(name, async (reference) => {
    const folder = mkdtempSync(join(tmpdir(), "lora-cli-"));
    try {
      await body(reference, folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

commandTest("lora verify lists what matches and how far weights move", async (reference) => {
  const model = `${reference}/pipelines/tiny-5b`;
  const { code, out, error } = await cli(["lora", "verify", `${reference}/lora/5b-meta`, "--model-path", model]);
  assert.equal(code, 0, error);
  assert.match(out, /^Model: +CogVideoX-5B \(width 128, 2 blocks\) in /m);
  assert.match(out, /^Trained on: not stored$/m);
  assert.match(out, /^Matched: +8 of 8 layers$/m);
  assert.doesNotMatch(out, /Unmatched|Without/);
  using base = openTransformer(model);
  const { down, up } = readLora(`${reference}/lora/5b-meta`).modules.get("transformer_blocks.1.attn1.to_v")!;
  let square = 0;
  for (let o = 0; o < 128; o++) {
    for (let i = 0; i < 128; i++) {
      let value = 0;
      for (let r = 0; r < 4; r++) value += up[o * 4 + r]! * down[r * 128 + i]!;
      square += (value / 2) ** 2;
    }
  }
  const weight = base.source.readF32("transformer_blocks.1.attn1.to_v.weight").reduce((sum, x) => sum + x * x, 0);
  const percent = (100 * Math.sqrt(square / weight)).toPrecision(3).replace(".", "\\.");
  assert.match(out, new RegExp(`^transformer_blocks\\.1\\.attn1\\.to_v +4 +2 +0\\.500 +${percent}%$`, "m"));
  assert.equal(error, "");
});

commandTest("lora verify says what it takes for alpha, and fails when nothing changes", async (reference, folder) => {
  const model = ["--model_path", `${reference}/pipelines/tiny-5b`];
  const plain = await cli(["lora", "verify", `${reference}/lora/5b`, ...model]);
  assert.equal(plain.code, 0);
  assert.match(plain.error, /does not state alpha; taking 4 .* give --alpha 2\n/);
  const given = await cli(["lora", "verify", `${reference}/lora/5b`, ...model, "--alpha", "0.25"]);
  assert.match(given.error, /alpha \/ rank is 0\.25 \/ 4 = 0\.063: the LoRA hardly acts/);
  const { modules } = readLora(`${reference}/lora/5b`);
  const zero = new Map([...modules].map(([layer, module]) => [layer, { ...module, up: module.up.map(() => 0) }]));
  const path = await writeModules(join(folder, "zero.safetensors"), zero, { format: "diffusers" });
  const dead = await cli(["lora", "verify", path, ...model]);
  assert.equal(dead.code, 1);
  assert.match(dead.error, /changes nothing: every update is zero/);
  const far = new Map([["transformer_blocks.40.attn1.to_q", [...modules.values()][0]!]]);
  const other = await writeModules(join(folder, "far.safetensors"), far, { format: "kohya" });
  const missed = await cli(["lora", "verify", other, ...model]);
  assert.equal(missed.code, 1);
  assert.match(missed.out, /^Matched: +0 of 1 layers$/m);
  assert.match(missed.out, /^Unmatched: +transformer_blocks\.40\.attn1\.to_q$/m);
  assert.match(missed.error, /none of its layers is in the model/);
});

commandTest("every command refuses a LoRA of another model", async (reference, folder) => {
  const lora = join(folder, "t2v.safetensors");
  const made = await cli([
    ...["lora", "export", `${reference}/lora/5b-meta`, "--to", "diffusers", "--output", lora],
    ...["--model_path", `${reference}/pipelines/tiny-5b`],
  ]);
  assert.equal(made.code, 0, made.error);
  const model = `${reference}/pipelines/tiny-5b-i2v`;
  const output = join(folder, "merged");
  for (
    const words of [
      ["verify", lora, "--model_path", model],
      ["merge", lora, "--model_path", model, "--output", output],
      ["export", lora, "--model_path", model, "--output", output, "--to", "kohya"],
    ]
  ) {
    const { code, error } = await cli(["lora", ...words]);
    assert.equal(code, 2, words[0]!);
    assert.match(error, /t2v\.safetensors" was trained on CogVideoX-5B \(.*\), but ".*" is CogVideoX-5B-I2V \(/);
  }
  assert.equal(existsSync(output), false);
});

commandTest("lora merge, then lora extract, gives the update back", async (reference, folder) => {
  const model = ["--model_path", `${reference}/pipelines/tiny-5b`];
  const merged = join(folder, "merged");
  const words = ["lora", "merge", `${reference}/lora/5b`, ...model, "--output", merged, "--strength=0.5"];
  const merge = await cli(words);
  assert.equal(merge.code, 0, merge.error);
  assert.match(merge.out, /^Merged 8 layers at strength 0\.5 into /);
  using golden = openTransformer(merged);
  using fused = openSafetensors(`${reference}/lora/5b.safetensors`);
  const name = "transformer_blocks.1.attn1.to_out.0.weight";
  assert.ok(relativeL2(golden.source.readF32(name), fused.readF32(`plain.fused0.5.${name}`)) < 3e-8);
  const again = await cli(words);
  assert.equal(again.code, 2);
  assert.match(again.error, /exists already/);

  const extracted = join(folder, "out.safetensors");
  const extract = await cli(["lora", "extract", merged, ...model, "--rank", "4", "--output", extracted]);
  assert.equal(extract.code, 0, extract.error);
  assert.match(extract.out, /8 layers of rank 4, 0\.00\d+% of the change is missed/);
  const { base, alpha, rank, alphaStored } = readLora(extracted);
  assert.deepEqual([base?.family, alpha, rank, alphaStored], ["5b", 4, 4, true]);
  const same = await cli([
    ...["lora", "extract", `${reference}/pipelines/tiny-5b`, ...model, "--output", join(folder, "same.safetensors")],
    ...["--target-modules", "to_q,to_k"],
  ]);
  assert.equal(same.code, 1);
  assert.match(same.error, /have the same values in these layers/);
  const none = await cli([
    ...["lora", "extract", merged, ...model, "--output", join(folder, "x.safetensors"), "--target_modules", "to_x"],
  ]);
  assert.equal(none.code, 2);
  assert.match(none.error, /matches no linear layer: "to_x"/);
  assert.deepEqual(readdirSync(folder).sort(), ["merged", "out.safetensors"]);
});

commandTest("a LoRA survives a tour through all formats", async (reference, folder) => {
  const first = readLora(`${reference}/lora/5b-meta`);
  let path = first.path;
  for (const format of ["peft", "kohya", "comfyui", "diffusers"]) {
    const output = join(folder, format === "peft" ? format : `${format}.safetensors`);
    const { code, out, error } = await cli(["lora", "export", path, "--to", format, "--output", output]);
    assert.equal(code, 0, error);
    assert.match(out, /^Wrote .*: 8 layers, rank 4, alpha 2\n$/);
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

commandTest("a file without a LoRA is named with what it holds", async (reference, folder) => {
  const path = join(folder, "vae.safetensors");
  await writeSafetensors(path, [{
    name: "encoder.conv_in.weight",
    dtype: "F32",
    shape: [1],
    data: Float32Array.of(1),
  }]);
  const model = `${reference}/pipelines/tiny-5b`;
  const { code, error } = await cli(["lora", "verify", path, "--model_path", model]);
  assert.equal(code, 2);
  assert.match(
    error,
    /holds no LoRA for the CogVideoX transformer: its 1 tensors are named "encoder\.conv_in\.weight"/,
  );
});
