/** docs/permissions.md against the program: every command works with exactly its flags, and names each one that is missing. */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { WritableHub } from "./push/fake_hub.ts";
import { fromFileUrl } from "../paths.ts";
import { examples, inScratch } from "../train/runs.ts";

const program = fromFileUrl("../../mod.ts", import.meta.url);
const document = readFileSync(fromFileUrl("../../docs/permissions.md", import.meta.url), "utf8");

/** The table of the document: flags by command. */
const FLAGS = new Map(
  [...document.matchAll(/^\| `([a-z -]+)` +\| `([^`]+)`/gm)].map(([, command, flags]) => [command!, flags!.split(" ")]),
);

const LORA = "run/checkpoint-1/pytorch_lora_weights.safetensors";
const QUICK = [
  "--model_name",
  "cogvideox-t2v",
  "--train_resolution",
  "9x32x48",
  "--rank",
  "4",
  "--train_steps",
  "1",
  "--lr_warmup_steps",
  "0",
];

/** What is run of each command, in a folder that holds clips; `train` makes what the last three take. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  "plan": ["--preset", "2b-lora"],
  "doctor": [],
  "data check": ["--data_root", "clips"],
  "data check --html": ["pages/clips.html", "--data_root", "clips"],
  "data import": ["--data_root", "clips", "--to", "lists"],
  "config import": ["python train.py --model_path m --training_type lora", "--to", "configs/mine.yaml"],
  "train": ["--data_root", "clips", "--output_dir", "run", "--model_path", "model", ...QUICK],
  "sample": [
    ...["--model_path", "model", "--prompt", "a ball", "--output_dir", "samples"],
    ...["--resolution", "9x32x48", "--num_inference_steps", "1"],
  ],
  "dashboard": ["run"],
  "push": ["run", "--repo", "me/ball"],
  "lora inspect": [LORA],
  "lora verify": [LORA, "--model_path", "model"],
};

async function run(folder: string, flags: readonly string[], command: string, hub: WritableHub) {
  const child = new Deno.Command(Deno.execPath(), {
    stdout: "piped",
    stderr: "piped",
    args: ["run", "--no-prompt", "--quiet", ...flags, program, ...command.split(" "), ...WORDS[command]!],
    cwd: folder,
    // The usual cache folder: other test files share this environment and change it. Without a folder for sockets, as
    // on servers, drivers that look for a screen complain.
    env: {
      NO_COLOR: "1",
      XDG_CACHE_HOME: join(homedir(), ".cache"),
      XDG_RUNTIME_DIR: "",
      HF_ENDPOINT: hub.endpoint,
      HF_TOKEN: "hf_right",
    },
  }).spawn();
  let out = "", isTold = false;
  const readOut = async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      out += text;
      // A server ends when it is told to.
      if (isTold || !/^Dashboard: .*\n/.test(out)) continue;
      isTold = true;
      child.kill("SIGTERM");
    }
  };
  const [stderr, status] = await Promise.all([child.stderr.text(), child.status, readOut()]);
  const code = status.code === 143 ? 0 : status.code;
  const lines = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("note: "));
  return { code, lines, out };
}

Deno.test("every command runs with exactly the flags of docs/permissions.md", () =>
  inScratch(async (folder) => {
    cpSync(join(examples, "tiny-2b"), join(folder, "model"), { recursive: true });
    await using hub = new WritableHub();
    for (const name of ["pages", "configs"]) mkdirSync(join(folder, name));
    assert.deepEqual([...FLAGS.keys()].sort(), Object.keys(WORDS).sort());
    const folders: Readonly<Record<string, string>> = {
      train: "run,clips/cache",
      sample: "samples",
      "data check --html": "pages",
      "data import": "lists",
      "config import": "configs",
    };
    for (const [command, documented] of FLAGS) {
      const flags = documented.map((flag) => flag.replace(/=OUTPUT.*/, `=${folders[command]}`));
      for (const missing of flags) {
        const { code, lines } = await run(folder, flags.filter((flag) => flag !== missing), command, hub);
        const [name] = missing.split("=");
        assert.equal(code, 2, `${command} without ${name}: ${lines.join("\n")}`);
        assert.equal(lines.length, 1, `${command} without ${name}: ${lines.join("\n")}`);
        assert.match(lines[0]!, new RegExp(`^error: Requires .*run again with the ${name} flag; docs/permissions.md`));
      }
      const { code, lines, out } = await run(folder, flags, command, hub);
      assert.deepEqual(lines, [], command);
      assert.equal(code, 0, `${command}: ${out}`);
    }
  }));
