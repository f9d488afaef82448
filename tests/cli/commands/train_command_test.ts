import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { cutToCells } from "../../../lib/cli/show/fit_line.ts";
import { cli, FakeSignals, fakeSystem, soundFiles, soundPrograms, stepEvent } from "../fakes.ts";

// A folder that exists stands for the dataset.
const data = tmpdir();

/** The original trainer's launch scripts, with every argument its parser knows. */
const originalCommandLine = [
  [
    "--model_path",
    "THUDM/CogVideoX-2b",
    "--model_name",
    "cogvideox-t2v",
    "--model_type",
    "t2v",
    "--training_type",
    "lora",
  ],
  ["--output_dir", "/runs/a", "--report_to", "tensorboard", "--data_root", data, "--caption_column", "prompt.txt"],
  ["--video_column", "videos.txt", "--train_resolution", "49x480x720", "--train_epochs", "10", "--seed", "42"],
  ["--batch_size", "1", "--gradient_accumulation_steps", "2", "--mixed_precision", "fp16", "--num_workers", "8"],
  ["--pin_memory", "True", "--nccl_timeout", "1800", "--checkpointing_steps", "10", "--checkpointing_limit", "2"],
  ["--learning_rate", "2e-5", "--optimizer", "adamw", "--beta1", "0.9", "--beta2", "0.95", "--beta3", "0.98"],
  ["--epsilon", "1e-8", "--weight_decay", "1e-4", "--max_grad_norm", "1.0", "--lr_scheduler", "constant_with_warmup"],
  ["--lr_warmup_steps", "100", "--lr_num_cycles", "1", "--lr_power", "1.0", "--rank", "128", "--lora_alpha", "64"],
  ["--target_modules", "to_q", "to_k", "to_v", "to_out.0", "--gradient_checkpointing", "False"],
  ["--enable_slicing", "True", "--enable_tiling", "True", "--do_validation", "true", "--validation_dir", "/v"],
  ["--validation_steps", "20", "--validation_prompts", "prompts.txt", "--validation_images", "images.txt"],
  ["--validation_videos", "videos.txt", "--gen_fps", "16", "--train_steps", "300"],
].flat();

Deno.test("the original trainer's whole command line is accepted as it is", async () => {
  const { code, error, trained, calls } = await cli(originalCommandLine);
  assert.equal(code, 0, error);
  assert.deepEqual(calls, ["ensureSystem", "train"]);
  const [config] = trained;
  assert.deepEqual(config!.train_resolution, [49, 480, 720]);
  assert.deepEqual(config!.target_modules, ["to_q", "to_k", "to_v", "to_out.0"]);
  assert.equal(config!.gradient_checkpointing, false);
  assert.equal(config!.enable_tiling, true);
  assert.equal(config!.lora_alpha, 64);
  assert.equal(config!.learning_rate, 2e-5);
  assert.equal(config!.model, "2b");
  for (const key of ["num_workers", "pin_memory", "nccl_timeout", "validation_videos"]) {
    assert.match(error, new RegExp(`note: --${key}: has no effect`));
  }
});

Deno.test("train is implied, and --preset means the same with and without it", async () => {
  const flags = [
    "--preset",
    "5b-lora",
    "--data_root",
    data,
    "--model_path",
    "THUDM/CogVideoX-5b",
    "--output_dir",
    "/r",
  ];
  const [implied, named] = [await cli(flags), await cli(["train", ...flags])];
  assert.equal(implied.code, 0, implied.error);
  assert.deepEqual(implied.trained, named.trained);
  assert.equal(implied.trained[0]!.model, "5b");
  assert.equal(implied.trained[0]!.mixed_precision, "bf16");
});

Deno.test("settings on the command line win over the file, which wins over the preset", async () => {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-cli-"));
  try {
    const file = join(folder, "mine.yaml");
    writeFileSync(file, "preset: 2b-lora\ndata_root: .\nmodel_path: THUDM/CogVideoX-2b\nrank: 64\nseed: 3\n");
    const { code, trained, error } = await cli([file, "--seed", "4", "lora_alpha=32"]);
    assert.equal(code, 0, error);
    const [config] = trained;
    assert.deepEqual([config!.rank, config!.seed, config!.lora_alpha, config!.gpu_memory], [64, 4, 32, 16]);
    assert.equal(config!.data_root, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

Deno.test("mistakes print message and hint without a stack and end with 2", async () => {
  const cases: [string[], RegExp][] = [
    [
      ["train", "--preset", "2b-lora", "--lerning_rate", "1", "--rnak=4"],
      /--lerning_rate: unknown key(.|\n)*did you mean "rank"\?/,
    ],
    [["train", "--preset", "2b-lore"], /Unknown preset "2b-lore"; did you mean "2b-lora"\?/],
    [["train", "--preset", "2b-lora"], /data_root: not set(.|\n)*model_path: not set/],
    [["train", "nowhere.yaml"], /"nowhere.yaml" does not exist\nHint:/],
    [["train", "--preset", "2b-lora", "--rank"], /--rank: expected a whole number(.|\n)*found the text ""/],
    [["trian"], /did you mean `train`\?/],
    [["doctor", "--fst"], /No flag registered for --fst/],
    [["lora", "inspect"], /Expected argument for file/],
    [["lora", "inspect", "nowhere.safetensors"], /nowhere\.safetensors/],
  ];
  for (const [args, expected] of cases) {
    const { code, error, trained } = await cli(args);
    assert.equal(code, 2, `${args}: ${error}`);
    assert.match(error, expected);
    assert.doesNotMatch(error, /\.ts:\d+/);
    assert.deepEqual(trained, []);
  }
});

Deno.test("a fault of the program shows its stack and ends with 1", async () => {
  const { code, error } = await cli(originalCommandLine, {
    // deno-lint-ignore require-yield
    events: async function* () {
      await Promise.resolve();
      throw new TypeError("broken");
    },
  });
  assert.equal(code, 1);
  assert.match(error, /TypeError: broken\n\s+at /);
});

Deno.test("--dry-run prints config and forecast and trains nothing", async () => {
  const { code, out, calls } = await cli([...originalCommandLine, "--dry-run"]);
  assert.equal(code, 0);
  // Of a model that is not on this machine only the forecast is known.
  assert.deepEqual(calls, ["plan"]);
  const local = await cli([...originalCommandLine, "--dry-run", "--model_path", "."]);
  assert.deepEqual(local.calls, ["train", "plan"]);
  assert.deepEqual(local.trained.map(({ dry_run }) => dry_run), [true]);
  assert.match(out, /^rank: 128$/m);
  assert.match(out, /^train_resolution: 49x480x720$/m);
  assert.match(out, /forecast of 2b/);
});

Deno.test("plan needs neither weights nor data", async () => {
  const { code, out, calls } = await cli(["plan", "--preset", "1.5-5b-lora"]);
  assert.equal(code, 0);
  assert.deepEqual(calls, ["plan"]);
  assert.equal(out, "forecast of 1.5-5b\n");
});

Deno.test("--help lists every key with its default", async () => {
  const { code, out } = await cli(["train", "--help"]);
  assert.equal(code, 0);
  assert.match(out, /^ {2}--rank +Rank of the adapters\. \(a whole number from 1 to 4096; default 128\)$/m);
  assert.match(out, /^ {2}--train_resolution +Frames x height x width/m);
  assert.match(out, /^MEMORY$/m);
  assert.ok(out.split("\n").every((line) => line.length <= 120));
  assert.match(out, /^ {2}deno task train\n {2}deno run -A mod\.ts train --/m);
  assert.doesNotMatch(out, /--fit/);
  const root = await cli(["--help"]);
  assert.match(root.out, /train +Fine-tune a model/);
  assert.match((await cli(["--version"])).out, /^\d+\.\d+\.\d+/);
});

Deno.test("plain output has one line per event", async () => {
  const events = async function* (): AsyncIterable<TrainEvent> {
    await Promise.resolve();
    yield {
      type: "started",
      step: 0,
      totalSteps: 2,
      clips: 3,
      parameters: 58_982_400,
      device: "llvmpipe",
      outputDir: "/r",
      example: { prompt: "the director's cat" },
    };
    yield { type: "cache", kind: "video", done: 1, total: 3, reused: 0 };
    yield { type: "cache", kind: "video", done: 3, total: 3, reused: 1 };
    yield stepEvent(1, 2);
    yield { ...stepEvent(1, 2), flopsPerSecond: 45e9, peakShare: 0.0123 };
    yield { ...stepEvent(1, 2), flopsPerSecond: 2.345e15, peakShare: 1.052 };
    const gpuBytes = [3, 3.25, 2.5].map((gibibytes) => gibibytes * 2 ** 30);
    yield { ...stepEvent(2, 2), ranks: [1.5, 1.25, 1.75].map((seconds, i) => ({ seconds, gpuBytes: gpuBytes[i]! })) };
    yield { ...stepEvent(2, 2), ranks: [1, 1].map((seconds) => ({ seconds, gpuBytes: 2 ** 30 })) };
    yield { ...stepEvent(2, 2), ranks: [2 ** 29, 2 ** 30].map((gpuBytes) => ({ seconds: 2, gpuBytes })) };
    yield { type: "skipped", step: 2, reason: "overflow", clip: "a.mp4", timestep: 7, tensor: "proj_out" };
    yield { type: "warning", message: "slow" };
    yield { type: "saved", step: 2, path: "/r/checkpoint-2", bytes: 1536, seconds: 61 };
    yield { type: "finished", step: 2, seconds: 7300, path: "/r/checkpoint-2", interrupted: false };
  };
  const { out } = await cli(originalCommandLine, { events });
  const lines = out.slice(out.indexOf("Training")).split("\n");
  assert.deepEqual(lines, [
    "Training 58,982,400 parameters on 3 clips, 2 steps, on llvmpipe",
    "Output: /r",
    "Page of the run: /r/index.html",
    "encoded 3/3 videos, 1 of them reused from the cache",
    "step 1/2  loss 0.2500  grad norm 1.50  lr 2.00e-5  2.00 s/step  1.50 TFLOP/s  2 s left  3.00 GiB",
    "step 1/2  loss 0.2500  grad norm 1.50  lr 2.00e-5  2.00 s/step  45.0 GFLOP/s (1.2 % of peak)  2 s left  3.00 GiB",
    "step 1/2  loss 0.2500  grad norm 1.50  lr 2.00e-5  2.00 s/step  2.35 PFLOP/s (105 % of peak)  2 s left  3.00 GiB",
    ...["2: 1.75 s, memory 2.50-3.25 GiB", "0: 1.00 s, memory 1.00 GiB", "0: 2.00 s, memory 512 MiB-1.00 GiB"].map((
      ranks,
    ) =>
      `step 2/2  loss 0.2500  grad norm 1.50  lr 2.00e-5  2.00 s/step  1.50 TFLOP/s  0 s left  slowest rank ${ranks}`
    ),
    "step 2 skipped: overflow in proj_out (clip a.mp4, timestep 7)",
    "warning: slow",
    "saved /r/checkpoint-2 (1.50 KiB, 1 min 1 s)",
    "Finished after step 2, 2 h 1 min; last checkpoint: /r/checkpoint-2",
    "Result: /r/checkpoint-2/pytorch_lora_weights.safetensors",
    "Page of the run, with its videos: /runs/a/index.html",
    "Make a video:",
    "  deno run -A mod.ts sample --model_path THUDM/CogVideoX-2b --lora /r/checkpoint-2/pytorch_lora_weights.safetensors " +
    "--resolution 49x480x720 --prompt 'the director'\\''s cat'",
    "Look at the LoRA:",
    "  deno run -A mod.ts lora verify /r/checkpoint-2/pytorch_lora_weights.safetensors --model_path THUDM/CogVideoX-2b",
    "",
  ]);
});

Deno.test("on a terminal, steps redraw one line that fits windows of 60 to 200 columns", async () => {
  const long = { ...stepEvent(123_456, 1_000_000), peakShare: 0.42, secondsPerStep: 123, gradNorm: 1234.5 };
  const ranks = [1.5, 12.25].map((seconds, i) => ({ seconds, gpuBytes: (10 + i) * 2 ** 30 }));
  const events = async function* (): AsyncIterable<TrainEvent> {
    await Promise.resolve();
    yield { type: "cache", kind: "video", done: 999, total: 1000, reused: 12 };
    yield { type: "download", model: "THUDM/CogVideoX1.5-5B-I2V", file: "a".repeat(180), done: 2, total: 3 };
    yield { type: "tune", done: 1, total: 2, problem: "p".repeat(180) };
    yield stepEvent(1, 4);
    yield long;
    yield { ...long, ranks };
    yield { type: "warning", message: "slow" };
  };
  for (const columns of [60, 61, 80, 100, 120, 160, 200]) {
    const { out } = await cli(originalCommandLine, { events, columns });
    // One column stays free, in which the cursor stands.
    const drawn = out.slice(out.indexOf("\r")).split("\r").slice(1).map((line) => line.split("\x1b[K")[0]!);
    assert.equal(drawn.length, 6);
    for (const line of drawn) {
      assert.ok([...line].length < columns, `${columns}: ${line}`);
      assert.match(line, /^█*░* \S/);
      assert.equal(line.match(/[█░]/g)!.length, Math.min(30, Math.floor(columns / 6)), `${columns}: ${line}`);
    }
    assert.match(drawn[0]!, / encoded 999\/1000 videos/);
    // The step, the loss and what is left are told in every window, all of it in wide ones.
    assert.match(drawn[3]!, / step 1\/4 {2}loss 0\.2500 {2}.*6 s left/);
    assert.match(drawn[4]!, / step 123456\/1000000 {2}/);
    if (columns >= 120) assert.match(drawn[3]!, /s\/step {2}6 s left {2}3\.00 GiB$|TFLOP\/s {2}6 s left {2}3\.00 GiB$/);
    if (columns === 200) {
      assert.match(drawn[5]!, /grad norm .* lr .* s\/step .* of peak\).* left {2}slowest rank 1: 12\.3 s, memory/);
    }
    assert.ok(out.endsWith("\x1b[K\nwarning: slow\n"));
  }
});

Deno.test("wide letters count as two columns", () => {
  assert.equal(cutToCells("漢字かな", 5), "漢字");
  assert.equal(cutToCells("a🚀b", 3), "a🚀");
  assert.equal(cutToCells("héllo", 9), "héllo");
});

const told = async function* (): AsyncIterable<TrainEvent> {
  await Promise.resolve();
  yield { type: "status", message: "looking" };
  yield stepEvent(1, 2);
  yield { type: "warning", message: "slow\u202e\x1b[0m" };
  yield { type: "finished", step: 2, seconds: 7300, path: "/r/checkpoint-2", interrupted: false };
};

Deno.test("--json prints one object a line and nothing else, whatever events hold", async () => {
  const { code, out } = await cli([...originalCommandLine, "--json"], { events: told, columns: 80 });
  assert.equal(code, 0);
  const lines = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines, await Array.fromAsync(told()));
  assert.match(out, /slow\\u202e\\u001b\[0m/);
  const wrong = await cli(["--json", "--preset", "2b-lora"]);
  const [error] = wrong.out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual([wrong.code, error.type, error.problems.length], [2, "error", 2]);
  const plan = await cli(["plan", "--json", "--preset", "2b-lora"]);
  assert.deepEqual(JSON.parse(plan.out), { type: "plan", peakBytes: 1 });
  const check = await cli(["data", "check", "--json", "--data_root", data]);
  assert.deepEqual(JSON.parse(check.out), { type: "data check", samples: 3, notes: [], problems: [] });
  const refused = await cli(["tune", "--json"]);
  assert.deepEqual([refused.code, JSON.parse(refused.out).message], [
    2,
    "--json is of train, plan, doctor, data check, lora inspect",
  ]);
});

Deno.test("--quiet leaves warnings and the end of a run", async () => {
  for (const columns of [{}, { columns: 80 }]) {
    const { out } = await cli([...originalCommandLine, "-q"], { events: told, ...columns });
    assert.equal(
      out,
      "warning: slow\\u{202e}\\u{1b}[0m\nFinished after step 2, 2 h 1 min; last checkpoint: /r/checkpoint-2\n",
    );
  }
});

Deno.test("the first signal lets the trainer save, the second ends at once", async () => {
  for (const [name, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    const signals = new FakeSignals();
    const events = async function* (signal: AbortSignal): AsyncIterable<TrainEvent> {
      await Promise.resolve();
      yield stepEvent(1, 9);
      assert.equal(signal.aborted, false);
      signals.send(name);
      assert.equal(signal.aborted, true);
      yield { type: "finished", step: 2, seconds: 5, path: "/r/checkpoint-2", interrupted: true };
    };
    const outcome = await cli(originalCommandLine, { events, signals });
    assert.equal(outcome.code, code);
    assert.match(outcome.out, new RegExp(`${name}: finishing this step`));
    assert.match(outcome.out, /Stopped after step 2/);
    assert.deepEqual(signals.exits, []);
    assert.equal(signals.handlers.size, 0);
  }
  const signals = new FakeSignals();
  const impatient = async function* (): AsyncIterable<TrainEvent> {
    await Promise.resolve();
    yield stepEvent(1, 9);
    signals.send("SIGTERM");
    signals.send("SIGINT");
  };
  const { out } = await cli(originalCommandLine, { events: impatient, signals, columns: 80 });
  assert.deepEqual(signals.exits, [130]);
  // Where a terminal shows ^C, what was drawn there is left behind and the next prompt begins a line of its own.
  assert.equal(
    out.split("\x1b[K").at(-1)!.replace(/finishing .*/, "finishing"),
    "\nSIGTERM: finishing\nSIGINT again: ended without saving; what was saved before is whole\n",
  );
});

Deno.test("data check prints findings and ends with 2 when training could not start", async () => {
  const args = ["data", "check", "--data_root", data];
  const good = await cli(args);
  assert.deepEqual([good.code, good.out], [0, "3 clips\n"], good.error);
  const report = { lines: [], notes: ["few clips"], problems: ["a.mp4 is missing"], figures: {} };
  const bad = await cli(args, { commands: { checkData: () => Promise.resolve(report) } });
  assert.deepEqual([bad.code, bad.out], [2, "note: few clips\nproblem: a.mp4 is missing\n"]);
});

Deno.test("--dashboard serves the output folder while the run goes on, on a port of one's own or the usual one", async () => {
  const flags = [
    "--preset",
    "5b-lora",
    "--data_root",
    data,
    "--model_path",
    "THUDM/CogVideoX-5b",
    "--output_dir",
    "/r",
  ];
  for (
    const [words, port] of [[["--dashboard"], undefined], [["--dashboard", "9000"], 9000], [
      ["--dashboard=0"],
      0,
    ]] as const
  ) {
    for (const order of [[...words, ...flags], [...flags, ...words]]) {
      const { code, calls, out, error } = await cli(order);
      assert.equal(code, 0, error);
      assert.deepEqual(calls, ["ensureSystem", `serve /r ${port}`, "train", "served"]);
      assert.match(out, /^Dashboard: http:\/\/127\.0\.0\.1:1\/ /m);
    }
  }
  const { code, error } = await cli([...flags, "--dashboard", "now"]);
  assert.equal(code, 2);
  assert.match(error, /"now" is no port\nHint: /);
  const system = fakeSystem(soundFiles, soundPrograms, {
    environment: (name) => name === "OMPI_COMM_WORLD_RANK" ? "1" : undefined,
  });
  for (const unserved of [await cli(flags), await cli([...flags, "--dashboard"], { system })]) {
    assert.deepEqual(unserved.calls, ["ensureSystem", "train"]);
  }
});
