/** `cogtune sample` with the tiny pipelines, on whatever adapter the machine has. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { parseLoraChoice, parseResolution } from "../../../lib/cli/commands/sample_flags.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { withFolder } from "../../data/media.ts";
import { FILE, textLora } from "../../models/lora/stored.ts";
import { pipelineFor } from "../../reference.ts";
import { cli, FakeSignals } from "../fakes.ts";

Deno.test("a LoRA is given with or without a strength, whatever colons its path has", () => {
  assert.deepEqual(parseLoraChoice("a.safetensors"), { path: "a.safetensors", strength: 1 });
  assert.deepEqual(parseLoraChoice("a.safetensors:0.5"), { path: "a.safetensors", strength: 0.5 });
  assert.deepEqual(parseLoraChoice("C:\\loras\\a:b:-1"), { path: "C:\\loras\\a:b", strength: -1 });
  assert.deepEqual(parseLoraChoice("C:\\a.safetensors"), { path: "C:\\a.safetensors", strength: 1 });
});

Deno.test("a resolution is frames, height and width", () => {
  assert.deepEqual(parseResolution("49x480x720"), [49, 480, 720]);
  for (const text of ["480x720", "49x480x720x1", "axbxc", "49 x 480 x 720", ""]) {
    assert.throws(() => parseResolution(text), /FRAMESxHEIGHTxWIDTH/);
  }
});

const quick = ["--resolution", "9x32x32", "--num-inference-steps=2", "--dtype", "f32"];

Deno.test("sample makes a video per prompt and seed, and a page of them", async () => {
  await withFolder(async (out) => {
    const { model, plain } = textLora();
    const lora = `${plain}/${FILE}`;
    const args = ["sample", "--model_path", model, "--prompt", "a kite", "--prompt", "a boat", "--seed", "1"];
    const more = ["--seed", "2", "--lora", `${lora}:0.5`, "--lora", lora, "--output-dir", out, "--format", "mp4"];
    const { code, out: text, error } = await cli([...args, ...more, "--format", "gif", ...quick]);
    assert.equal(code, 0, error);
    const names = ["001-a-kite-seed1", "002-a-kite-seed2", "003-a-boat-seed1", "004-a-boat-seed2"];
    for (const name of names) {
      for (const ending of ["mp4", "gif"]) {
        const { frames, width, height } = await probe(`${out}/${name}.${ending}`);
        assert.deepEqual([frames, width, height], [9, 32, 32]);
      }
      assert.match(text, new RegExp(`${name}\\.mp4, .*${name}\\.gif \\(9 frames of 32x32, `));
    }
    assert.match(text, /note: .*does not state alpha/);
    assert.match(text, /^page: .*index\.html$/m);
    const page = readFileSync(`${out}/index.html`, "utf8");
    assert.equal([...page.matchAll(/<video/g)].length, 4);
    assert.match(page, /DPM, 2 steps, guidance 6, 9 frames of 32x32/);
  });
});

Deno.test("sample starts from pictures and redraws its progress for a person", async () => {
  await withFolder(async (out) => {
    const source = "testsrc2=s=50x40:d=1";
    await new Deno.Command("ffmpeg", {
      args: ["-v", "error", "-f", "lavfi", "-i", source, "-frames:v", "1", `${out}/p.png`],
    }).output();
    await Deno.writeTextFile(`${out}/prompts.txt`, "one\ntwo\n");
    await Deno.writeTextFile(`${out}/images.txt`, "p.png\np.png\n");
    const lists = ["--prompts", `${out}/prompts.txt`, "--images", `${out}/images.txt`];
    const args = ["sample", "--model_path", pipelineFor("1.5-5b-i2v"), ...lists, "--output_dir", out];
    const { code, out: text, error } = await cli([...args, ...quick, "--format", "png"], { columns: 60 });
    assert.equal(code, 0, error);
    assert.ok(text.includes("\rvideo 2/2: step 2/2\x1b[K"));
    assert.equal([...Deno.readDirSync(`${out}/001-one-seed42`)].length, 9);
    assert.ok(existsSync(`${out}/002-two-seed42-start.png`));
    // Single pictures are nothing a page of videos shows.
    assert.equal(existsSync(`${out}/index.html`), false);
  });
});

Deno.test("sample refuses what does not fit together and says all of it", async () => {
  await withFolder(async (out) => {
    const model = ["sample", "--model_path", pipelineFor("5b"), "--output_dir", `${out}/new`];
    const none = await cli(model);
    assert.deepEqual([none.code, none.calls], [2, []]);
    assert.match(none.error, /no prompt: add --prompt TEXT or --prompts FILE/);
    const pairs = await cli([...model, "--prompts", `${out}/absent.txt`, "--image", "a.png", "--image", "b.png"]);
    assert.equal(pairs.code, 2);
    assert.match(pairs.error, /2 problems[\s\S]*absent\.txt": no such file[\s\S]*2 images for 0 prompts/);
    const size = await cli([...model, "--prompt", "p", "--resolution", "49x481x720"]);
    assert.equal(size.code, 2);
    assert.match(size.error, /height is 481: expected a multiple of 16/);
    const flag = await cli([...model, "--prompt", "p", "--num-inference-steps", "many"]);
    assert.equal(flag.code, 2);
    assert.match(flag.error, /num_inference_steps.*expected an integer from 1/);
    assert.equal((await cli(["sample", "--prompt", "p"])).code, 2);
    assert.equal(existsSync(`${out}/new`), false);
  });
});

Deno.test("sample ends after a signal with its exit code and keeps finished videos", async () => {
  await withFolder(async (out) => {
    const signals = new FakeSignals();
    const model = ["sample", "--model_path", pipelineFor("5b"), "--output_dir", out, "--prompt", "p"];
    const run = cli([...model, "--resolution", "9x32x32", "--num_inference_steps", "1000"], { signals });
    while (!signals.handlers.has("SIGINT")) await new Promise((wake) => setTimeout(wake, 20));
    signals.send("SIGINT");
    const { code, out: text } = await run;
    assert.equal(code, 130);
    assert.match(text, /SIGINT: ending after this step/);
    assert.deepEqual([...Deno.readDirSync(out)], []);
  });
});
