/** `push` and `push_to_hub` against a hub on this machine; no real hub is reached. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { modelCard } from "../../../lib/cli/push/model_card.ts";
import { publicCheckpoint } from "../../../lib/cli/push/checkpoint_files.ts";
import { pushCheckpoint, pushResult } from "../../../lib/cli/push/push.ts";
import { createTerminal } from "../../../lib/cli/machine/terminal.ts";
import { printConfig } from "../../../lib/config/config.ts";
import { UserError } from "../../../lib/errors.ts";
import { commitFolder } from "../../../lib/io/commit_folder.ts";
import { program, trainWords } from "../../bad_input/command.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { configOf } from "../../train/runs.ts";
import { WritableHub } from "./fake_hub.ts";

const PROMPT = 'a "purple" star: | <b>moves</b> `down`';
const WEIGHTS = new Uint8Array(100_000).map((_, i) => i * 31);
const VIDEO = new Uint8Array(5_000).map((_, i) => i * 7);

/** A run of four steps with a checkpoint, as training leaves it, and videos of two steps. */
async function makeRun(folder: string, overrides: Record<string, unknown> = {}): Promise<string> {
  const run = join(folder, "run");
  const config = configOf(folder, { id_token: "ohwx ", ...overrides });
  const files: Record<string, string | Uint8Array> = config.training_type === "lora"
    ? { "pytorch_lora_weights.safetensors": WEIGHTS }
    : {
      "transformer/config.json": "{}",
      "transformer/diffusion_pytorch_model-00001-of-00002.safetensors": WEIGHTS,
      "transformer/diffusion_pytorch_model-00002-of-00002.safetensors": VIDEO,
      "transformer/diffusion_pytorch_model.safetensors.index.json": "{}",
    };
  mkdirSync(join(run, "validation_res"), { recursive: true });
  await commitFolder(join(run, "checkpoint-4"), (temporary) => {
    if (config.training_type === "sft") mkdirSync(join(temporary, "transformer"));
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(temporary, name), bytes);
    writeFileSync(join(temporary, "state.safetensors"), WEIGHTS);
    writeFileSync(join(temporary, "trainer.json"), "{}");
    writeFileSync(join(temporary, "config.yaml"), printConfig(config));
  });
  for (const step of [2, 4]) {
    const path = join(run, "validation_res", `validation-${step}-0-a.mp4`);
    writeFileSync(path, VIDEO);
    const event = { time: 1, type: "sample", step, prompt: PROMPT, path: `/elsewhere/${path}`, seconds: 1 };
    appendFileSync(join(run, "metrics.jsonl"), `${JSON.stringify(event)}\n`);
  }
  // The process was killed while it wrote.
  appendFileSync(join(run, "metrics.jsonl"), '{"time":1,"type":"sample","step":4,"pro');
  return run;
}

function collected() {
  let out = "", error = "";
  const terminal = createTerminal({
    out: (text) => void (out += text),
    error: (text) => void (error += text),
    columns: () => undefined,
  });
  return { terminal, text: () => out + error };
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** Runs `body` with a hub and a run. */
function pushTest(
  name: string,
  body: (given: { hub: WritableHub; folder: string; run: string }) => Promise<void>,
  overrides: Record<string, unknown> = {},
): void {
  Deno.test(name, () =>
    withFolder(async (folder) => {
      await using hub = new WritableHub();
      await body({ hub, folder, run: await makeRun(folder, overrides) });
    }));
}

pushTest(
  "a LoRA, its card and its videos arrive with their bytes, and nothing else does",
  async ({ hub, folder, run }) => {
    const { terminal, text } = collected();
    const options = { repo: "me/star", isPrivate: true, endpoint: hub.endpoint, token: "hf_right" };
    assert.equal(await pushCheckpoint(terminal, join(run, "checkpoint-4"), options), `${hub.endpoint}/me/star`);
    const { isPrivate, files } = hub.repos.get("me/star")!;
    assert.equal(isPrivate, true);
    assert.deepEqual([...files.keys()].sort(), ["README.md", "pytorch_lora_weights.safetensors", "videos/1.mp4"]);
    assert.equal(sha256(files.get("pytorch_lora_weights.safetensors")!), sha256(WEIGHTS));
    assert.equal(sha256(files.get("videos/1.mp4")!), sha256(VIDEO));
    const card = new TextDecoder().decode(files.get("README.md"));
    assert.ok(!card.includes(folder) && !card.includes("clips"), "no path of this machine");
    assert.doesNotMatch(card + text(), /hf_right/);
    assert.deepEqual(hub.storeTokens, [null, null], "the token is for the hub alone");

    // The same repository again: what has arrived is not sent twice, and nothing is made anew.
    hub.asked.length = 0;
    await pushCheckpoint(terminal, run, { ...options, isPrivate: false });
    assert.equal(hub.storeTokens.length, 2);
    assert.ok(hub.asked.every(({ path }) => path !== "/api/repos/create"));
    assert.equal(hub.repos.get("me/star")!.isPrivate, true);
  },
);

pushTest("all files of a full fine-tune", async ({ hub, run }) => {
  const options = { repo: "me/star", isPrivate: false, endpoint: hub.endpoint, token: "hf_right" };
  await pushCheckpoint(collected().terminal, run, options);
  const { isPrivate, files } = hub.repos.get("me/star")!;
  assert.equal(isPrivate, false);
  assert.deepEqual([...files.keys()].sort(), [
    "README.md",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
    "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
    "transformer/diffusion_pytorch_model.safetensors.index.json",
    "videos/1.mp4",
  ]);
  assert.match(new TextDecoder().decode(files.get("README.md")), /"me\/star", subfolder="transformer"/);
}, { training_type: "sft" });

pushTest("the card: front matter that parses, base model, trigger word, videos, a program", async ({ folder, run }) => {
  const checkpoint = await publicCheckpoint(run);
  const [, front, body] = /^---\n([^]*?)\n---\n([^]*)$/.exec(modelCard(checkpoint, "me/star"))!;
  // The example model is no released one: nothing is claimed about it.
  assert.deepEqual(parse(front!), {
    library_name: "diffusers",
    pipeline_tag: "text-to-video",
    tags: ["cogvideox", "cogtune", "text-to-video", "lora"],
    instance_prompt: "ohwx",
    widget: [{ text: PROMPT, output: { url: "videos/1.mp4" } }],
  });
  assert.match(body!, /^\n# star\n[^]*for 4 steps\.[^]*<code>ohwx<\/code>/);
  assert.match(body!, /\| rank \| 4 \|/);
  assert.match(body!, /\| train_resolution \| 9x32x48 \|/);
  assert.doesNotMatch(body!.replace(/```python[^]*?```/, ""), /<b>|data_root|output_dir|model_path/);
  assert.match(body!, /pipe\.load_lora_weights\("me\/star"\)/);
  assert.match(body!, /num_frames=9, height=32, width=48,/);

  const released = {
    ...checkpoint,
    config: { ...checkpoint.config, model: "5b-i2v" as const, model_type: "i2v" as const },
  };
  const other = modelCard(released, "me/star");
  assert.match(other, /^base_model: THUDM\/CogVideoX-5b-I2V$/m);
  assert.match(
    other,
    /CogVideoXImageToVideoPipeline\.from_pretrained\("THUDM\/CogVideoX-5b-I2V", torch_dtype=torch\.bfloat16\)/,
  );
  const elsewhere = { ...checkpoint.config, model: "5b" as const, model_path: join(folder, "private/CogVideoX-5b") };
  assert.doesNotMatch(modelCard({ ...checkpoint, config: elsewhere }, "me/star"), /private/);
});

pushTest("the kept best model goes before the last checkpoint", async ({ run }) => {
  await commitFolder(join(run, "best"), (temporary) => {
    writeFileSync(join(temporary, "pytorch_lora_weights.safetensors"), VIDEO);
    writeFileSync(join(temporary, "heldout.json"), '{"step":2,"loss":0.1}');
    writeFileSync(join(temporary, "config.yaml"), readFileSync(join(run, "checkpoint-4", "config.yaml")));
  });
  const { step, weights, videos } = await publicCheckpoint(run);
  assert.equal(step, 2);
  assert.equal(weights[0]!.path, join(run, "best", "pytorch_lora_weights.safetensors"));
  assert.deepEqual(videos.map(({ path }) => path), [join(run, "validation_res", "validation-2-0-a.mp4")]);
});

pushTest("a damaged checkpoint is not pushed", async ({ hub, run }) => {
  writeFileSync(join(run, "checkpoint-4", "pytorch_lora_weights.safetensors"), VIDEO);
  const options = { repo: "me/star", isPrivate: true, endpoint: hub.endpoint, token: "hf_right" };
  await assert.rejects(pushCheckpoint(collected().terminal, run, options), /is damaged: 1 problem/);
  assert.deepEqual(hub.asked, []);
});

pushTest("a token that is missing, malformed or refused, and a hub that is none", async ({ hub, run }) => {
  const options = { repo: "me/star", isPrivate: true, endpoint: hub.endpoint, attempts: 2, backoff: 1 };
  const refused = async (more: Record<string, unknown>, expected: RegExp) => {
    const pushing = pushCheckpoint(collected().terminal, run, { ...options, ...more });
    const error = await pushing.then(() => undefined, (error) => error);
    assert.ok(error instanceof UserError && error.hint !== undefined, `${error}`);
    assert.match(error.message, expected);
    assert.doesNotMatch(error.message, /hf_wrong|signature=/);
  };
  await refused({ token: "" }, /HF_TOKEN is not set\nHint: make an access token/);
  await refused({ token: "abc" }, /HF_TOKEN is no access token/);
  assert.deepEqual(hub.asked, []);
  await refused({ token: "hf_wrong" }, /does not let the owner of the token in HF_TOKEN write to "me\/star" \(401: /);
  await refused({ token: "hf_right", endpoint: "http://example.org" }, /expected one that begins with https/);
  hub.interceptStore = () => new Response(null, { status: 403 });
  await refused({ token: "hf_right" }, /where the hub keeps large files, answers 403[^]*signs such addresses/);
  hub.intercept = () => new Response("busy", { status: 503 });
  await refused({ token: "hf_right" }, /503[^]*given up after 2 attempts/);
  hub.intercept = () => new Response(null, { status: 307, headers: { location: "http://127.0.0.1:1/steal" } });
  await refused({ token: "hf_right" }, /redirects to http:\/\/127\.0\.0\.1:1\/steal[^]*may have been renamed/);
  hub.intercept = (path) => path.includes("preupload") ? new Response("<html>") : undefined;
  await refused({ token: "hf_right" }, /does not take the files[^]*is it a model hub/);
  assert.equal(hub.repos.get("me/star")!.files.size, 0);
});

pushTest("an interruption is tried again", async ({ hub, run }) => {
  let failures = 2;
  hub.intercept = (path) =>
    path.endsWith("/commit/main") && failures-- > 0 ? new Response(null, { status: 502 }) : undefined;
  const options = { repo: "me/star", isPrivate: true, endpoint: hub.endpoint, token: "hf_right", backoff: 1 };
  await pushCheckpoint(collected().terminal, run, options);
  assert.equal(hub.repos.get("me/star")!.files.size, 3);
  assert.equal(hub.storeTokens.length, 2, "large files are sent once");
});

pushTest(
  "a push that fails after a run is a warning with the command that repeats it",
  async ({ hub, folder, run }) => {
    const { terminal, text } = collected();
    const config = configOf(folder, { push_to_hub: "me/star" });
    const environment = { terminal } as Parameters<typeof pushResult>[0];
    const last = join(run, "checkpoint-4");
    await pushResult(environment, config, { last, endpoint: hub.endpoint, token: "hf_wrong" });
    assert.match(text(), /warning: the result is on disk, but was not pushed to me\/star: The hub does not let/);
    assert.match(text(), / push [^ ]*checkpoint-4 --repo me\/star --private\n$/);
    await pushResult(environment, { ...config, keep_best: true }, { last, endpoint: hub.endpoint, token: "hf_right" });
    assert.match(text(), /Pushed to http/);
  },
);

pushTest("a file beyond the store's largest part is sent in parts", async ({ hub, run }) => {
  hub.partBytes = 30_000;
  const options = { repo: "me/star", isPrivate: true, endpoint: hub.endpoint, token: "hf_right" };
  await pushCheckpoint(collected().terminal, run, options);
  const { files } = hub.repos.get("me/star")!;
  assert.equal(sha256(files.get("pytorch_lora_weights.safetensors")!), sha256(WEIGHTS));
  // Four parts of the LoRA and one of the video, and the word that each is whole.
  assert.deepEqual(hub.storeTokens, Array(7).fill(null));
});

pushTest("the commands: a dry run sends nothing, a run pushes what it has trained", async ({ hub, folder, run }) => {
  const env = { HF_ENDPOINT: hub.endpoint, HF_TOKEN: "hf_right" };
  const dry = await program(["push", run, "--repo", "me/star", "--dry-run"], { ...env, HF_TOKEN: "" });
  assert.equal(dry.code, 0, dry.error);
  assert.match(dry.out, /^Would push 3 files of .*checkpoint-4, .* to me\/star; nothing was sent$/m);
  assert.match(dry.out, /^pytorch_lora_weights\.safetensors +97\.7 KiB$/m);
  assert.deepEqual(hub.asked, []);

  const examples = new URL("../../../examples/", import.meta.url).pathname;
  const words = trainWords(
    folder,
    `--model_path=${join(examples, "tiny-2b")}`,
    `--data_root=${join(examples, "clips")}`,
  );
  const more = [
    `--output_dir=${join(folder, "trained")}`,
    `--cache_dir=${join(folder, "cache")}`,
    "--push_to_hub=me/ball",
  ];
  rmSync(run, { recursive: true });
  const trained = await program([...words, ...more], env);
  assert.equal(trained.code, 0, trained.error);
  assert.match(trained.out, new RegExp(`^Pushed to ${hub.endpoint}/me/ball$`, "m"));
  const file = join(folder, "trained/checkpoint-2/pytorch_lora_weights.safetensors");
  assert.ok(existsSync(file));
  assert.equal(
    sha256(hub.repos.get("me/ball")!.files.get("pytorch_lora_weights.safetensors")!),
    sha256(readFileSync(file)),
  );
  assert.equal(hub.repos.get("me/ball")!.isPrivate, true);
});
