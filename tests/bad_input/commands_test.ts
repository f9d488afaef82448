/** Wrong inputs of every kind, over all commands: what each says, and what must be mended. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EXAMPLES } from "../../lib/cli/help/examples.ts";
import { assertRefused, command, trainWords, withCopies } from "./command.ts";

/** A command line, what it must advise, and what it must say. */
type Case = readonly [
  words: (folder: string) => readonly string[],
  hint: RegExp,
  ...says: RegExp[],
];

const LORA = "lora.safetensors";

/** Files that cases use beside the copies of clips and model. */
function prepare(folder: string): void {
  writeFileSync(join(folder, "text.safetensors"), "this is no LoRA\n");
  writeFileSync(join(folder, "text.png"), "this is no picture\n");
  writeFileSync(join(folder, "nul.yaml"), 'preset: 2b-lora\ndata_root: "a\\0b"\nmodel_path: "c\\0d"\n');
  writeFileSync(join(folder, "broken.yaml"), "rank: 4\n  seed: 3\nrank: 8\n");
  writeFileSync(join(folder, "binary.yaml"), readFileSync(join(folder, "clips/videos/ball.mp4")));
  writeFileSync(
    join(folder, "many.yaml"),
    "preset: 2b-lora\nrnak: 3\nlearning_rate: fast\ntrain_resolution: 48x480x720\n",
  );
  writeFileSync(join(folder, "file"), "mine\n");
  symlinkSync("loop", join(folder, "loop"));
  symlinkSync("loop.yaml", join(folder, "loop.yaml"));
  mkdirSync(join(folder, "empty"));
  mkdirSync(join(folder, "folder.yaml"));
}

/** Words of a command, most of them files of the folder, which stands for `@`. */
function words(...text: string[]): (folder: string) => readonly string[] {
  return (folder) => text.map((word) => word.replace("@", folder));
}

/** The same behind a training run on the copies. */
function train(...text: string[]): (folder: string) => readonly string[] {
  return (folder) => trainWords(folder, ...words(...text)(folder));
}

const MODEL = ["--model_path", "@/model"];
const SAMPLE = ["sample", ...MODEL, "--prompt", "a ball", "--resolution=9x32x48", "--output_dir", "@/samples"];
const PLAN = ["plan", "--preset=2b-lora"];

const CONFIG = /deno run -A .*mod\.ts train --help lists every key/;
const FLAGS = /deno run -A .*mod\.ts --help lists commands, COMMAND --help its flags/;
const PATH = /check the path/;
const MODEL_FOLDER = /model_path must be a CogVideoX folder as diffusers saves it: model_index\.json, transformer\//;

const CASES: Readonly<Record<string, Case>> = {
  "an unknown command": [words("trian"), FLAGS, /No command registered for `trian`, did you mean `train`\?/],
  "a NUL in a word": [words("train", "--data_root", "a\0b"), CONFIG, /--data_root: contains a NUL character/],
  "a config that is not there": [
    words("train", "@/none.yaml"),
    /Give the path of a YAML/,
    /none\.yaml" does not exist/,
  ],
  "a config that is a folder": [words("train", "@/folder.yaml"), PATH, /folder\.yaml": a file stands where a folder/],
  "a config that is a link to itself": [words("train", "@/loop.yaml"), /Give the path/, /loop\.yaml" does not exist/],
  // A file that even root finds there and cannot read.
  ...(Deno.build.os === "linux"
    ? {
      "a config that cannot be read": [
        words("train", "--config=/proc/self/mem"),
        /check the disk/,
        /"\/proc\/self\/mem": the disk reports an input\/output error/,
      ] satisfies Case,
    }
    : {}),
  "a config with NUL in two paths": [
    words("train", "@/nul.yaml"),
    CONFIG,
    /nul\.yaml:2:12 data_root: contains a NUL/,
    /nul\.yaml:3:13 model_path: contains a NUL/,
  ],
  "a config that is no YAML": [words("train", "@/broken.yaml"), CONFIG, /broken\.yaml:1:7 Nested mappings are not/],
  "a config that is a video": [words("train", "@/binary.yaml"), CONFIG, /binary\.yaml:1:1 /],
  "mistakes of every kind in a config and on the command line": [
    words("train", "@/many.yaml", "--seed=-1"),
    CONFIG,
    /many\.yaml:2:1: unknown key "rnak"; did you mean "rank"\?/,
    /--seed: expected a whole number from 0 to 4294967295, found -1/,
    /many\.yaml:3:16 learning_rate: expected a number of at least 0, found the text "fast"/,
    /many\.yaml:4:19 train_resolution: 48 frames: expected 8N \+ 1 frames; use 41 or 49/,
    /data_root: not set/,
  ],
  "two configs and a stray word": [
    words("train", "a.yaml", "b.yaml", "c"),
    /lists every key/,
    /"c": expected a YAML file, --key value or key=value/,
    /a\.yaml, b\.yaml: expected one config file at most/,
  ],
  "an unknown preset": [
    words("train", "--preset=5b-lore"),
    /Presets: .*5b-lora/,
    /"5b-lore"; did you mean "5b-lora"\?/,
  ],
  "a model that is a file": [train("--model_path=@/file"), MODEL_FOLDER, /file" is no folder/],
  "a model that is a link to itself": [train("--model_path=@/loop"), MODEL_FOLDER, /loop" does not exist/],
  "a dataset that is a text": [
    train("--data_root=@/file"),
    /data check/,
    /file: is neither a table of clips nor a list/,
  ],
  "an output folder below a file": [train("--output_dir=@/file/run"), PATH, /file\/run": a file stands where a folder/],
  "an output folder with a name that is too long": [
    train(`--output_dir=@/${"n".repeat(300)}`),
    /choose a shorter one/,
    /nnn": the name is too long/,
  ],
  "a LoRA to start from that is a text": [
    train("--init_lora=@/text.safetensors"),
    /damaged, cut short or of another kind/,
    /text\.safetensors" is not a safetensors file/,
  ],
  "a checkpoint that is none": [
    train("--resume_from_checkpoint=@/empty"),
    /resume from an older one/,
    /empty" is damaged: 1 problem\n {2}- Cannot read ".*manifest\.json": it or its folder does not exist; check/,
  ],
  "held-out clips and validation lists that are not there": [
    train(
      "--heldout_root=@/none",
      "--do_validation",
      "--validation_dir=@",
      "--validation_prompts=none.txt",
      "--validation_steps=200",
    ),
    /mend all of them and run it again/,
    /2 problems/,
    /none\.txt: no such file/,
    /none: no such folder/,
  ],
  "memory that is none": [words(...PLAN, "--fit=much"), /as --fit 12GiB/, /--fit is "much": expected an amount/],
  "a GPU that is not known": [words(...PLAN, "--gpu=voodoo"), /known: .*rtx-4090/, /gpu is "voodoo": expected a known/],
  "links that are guessed": [
    words(...PLAN, "--links=guess"),
    /--transfer GB\/s/,
    /--links is "guess": expected measured/,
  ],
  "hosts below one": [words(...PLAN, "--hosts=-1"), /as --hosts 4/, /--hosts is "-1": expected a number of machines/],
  "a model of another kind than the preset": [
    words("plan", "--preset=5b-lora", "--model_path=@/model"),
    /choose the preset of this model/,
    /model is 5b, whose use_rotary_positional_embeddings is true, but .*transformer\/config\.json" says false/,
  ],
  "settings of a tuned run": [
    words("tune", "--preset=2b-lora", "--rank=0", "--batch_size=many"),
    CONFIG,
    /--batch_size: expected a whole number of at least 1, found the text "many"/,
    /--rank: expected a whole number from 1 to 4096, found 0/,
  ],
  "a sample without a model and of a shape that is none": [
    words("sample", "--prompt", "a ball", "--resolution", "big"),
    FLAGS,
    /2 problems/,
    /Expected input for flag --model_path/,
    /Failed to parse "big" for resolution: expected FRAMESxHEIGHTxWIDTH, as 49x480x720/,
  ],
  "a sample of a model that is not there": [
    words("sample", "--model_path", "@/none", "--prompt", "a"),
    MODEL_FOLDER,
    /none" does not exist/,
  ],
  "a sample without prompts": [
    words("sample", ...MODEL),
    /sample --help lists every flag/,
    /no prompt: add --prompt TEXT/,
  ],
  "a sample from lists and a LoRA that are not there": [
    words("sample", ...MODEL, "--prompts", "@/none.txt", "--images", "@/pictures.txt", "--lora", `@/${LORA}:0.5`),
    /sample --help lists every flag/,
    /3 problems/,
    /prompts ".*none\.txt": no such file/,
    /images ".*pictures\.txt": no such file/,
    /lora ".*lora\.safetensors": no such file/,
  ],
  "a sample with sizes that do not fit": [
    words("sample", ...MODEL, "--prompt", "a", "--resolution=8x30x50"),
    /correct the settings or leave them to the model/,
    /height is 30: expected a multiple of 16/,
    /width is 50: expected a multiple of 16/,
  ],
  "a sample from two pictures that are none": [
    words(...SAMPLE, "--prompt", "b", "--image", "@/text.png", "--image", "@/none.png"),
    /sample --help lists every flag/,
    /2 problems/,
    /text\.png: is a text file/,
    /none\.png/,
  ],
  "samples into a file": [
    words(...SAMPLE.slice(0, -1), "@/file"),
    /check the path/,
    /Cannot create ".*file": a file stands where a folder is expected/,
  ],
  "a flag that doctor has not": [words("doctor", "--fast"), FLAGS, /No flag registered for --fast/],
  "a check of nothing": [words("data", "check"), /Add --data_root FOLDER/, /No dataset given/],
  "a page in a folder that is not there": [
    words("data", "check", "--data_root=@/clips", "--html=@/none/page.html"),
    /give another path to --html/,
    /Cannot write ".*none\/page\.html": its folder does not exist/,
  ],
  "a dashboard of a file": [words("dashboard", "@/file"), /give the output_dir of a run/, /file" is no folder/],
  "a dashboard at no port": [
    words("dashboard", "@", "--port", "99999"),
    FLAGS,
    /for port: "99999" is no port; give a number from 0 to 65535/,
  ],
  "another trainer's config that is a text": [
    words("config", "import", "@/file"),
    /give the script that starts the training/,
    /file: no call of a training program with --flags was found/,
  ],
  "an import to nowhere": [words("data", "import", "--data_root=@/clips"), /Add --to FOLDER/, /No folder to write to/],
  "an import into a file": [
    words("data", "import", "--data_root=@/clips", "--to=@/file"),
    /check the path/,
    /Cannot create ".*file": a file stands where a folder is expected/,
  ],
  "an inspection of a NUL": [
    words("lora", "inspect", "a\0b"),
    /no path .* can hold one/,
    /"a\\u\{0\}b" contains a NUL/,
  ],
  "an inspection of nothing": [words("lora", "inspect"), FLAGS, /Expected argument for file/],
  "an inspection of a folder": [
    words("lora", "inspect", "@/empty"),
    /give the LoRA file itself/,
    /empty" holds (no|neither) /,
  ],
  "an inspection of a text": [
    words("lora", "inspect", "@/text.safetensors"),
    /get it again/,
    /text\.safetensors" is not a safetensors file/,
  ],
  "an inspection of a link to itself": [words("lora", "inspect", "@/loop"), /give the path/, /links lead in a circle/],
  "a LoRA that is a model": [
    words("lora", "verify", "@/model/transformer/diffusion_pytorch_model.safetensors", ...MODEL),
    /expected pairs like .*lora_A\.weight and lora_B\.weight/,
    /holds no LoRA for the CogVideoX transformer/,
  ],
  "a merge at a strength that is none, into nothing": [
    words("lora", "merge", `@/${LORA}`, ...MODEL, "--strength", "full"),
    FLAGS,
    /2 problems/,
    /Failed to parse "full" for strength/,
    /Expected input for flag --output/,
  ],
  "an extraction of rank 0": [
    words("lora", "extract", "@/model", ...MODEL, "--output", "@/out", "--rank", "0"),
    FLAGS,
    /Failed to parse "0" for rank: "0" is no whole number above 0/,
  ],
  "an extraction from a file": [
    words("lora", "extract", "@/file", ...MODEL, "--output", "@/out"),
    PATH,
    /Cannot read ".*file\/config\.json": a file stands where a folder is expected/,
  ],
  "an export to a format that is none": [
    words("lora", "export", `@/${LORA}`, "--to", "a1111", "--output", "@/out"),
    FLAGS,
    /Expected "a1111" to be one of \(diffusers\|peft\|kohya\|comfyui\|sat\)/,
  ],
  "a push of nothing to nowhere": [
    words("push", "--repo", "star"),
    FLAGS,
    /2 problems/,
    /Expected argument for checkpoint/,
    /"star" is no repository of a hub; give owner\/name/,
  ],
  "a push of what is not there": [
    words("push", "@/none", "--repo", "me/star", "--dry_run"),
    /give a checkpoint or the output_dir of a run/,
    /none" does not exist/,
  ],
  "a push of a model that was not trained": [
    words("push", "@/model", "--repo", "me/star", "--dry_run"),
    /give a folder checkpoint-<step>/,
    /model" is neither a checkpoint nor the folder of a run/,
  ],
  "a push of a link to itself": [
    words("push", "@/loop", "--repo", "me/star", "--dry_run"),
    /give the path/,
    /links lead in a circle/,
  ],
  "a run for a repository that is none": [
    train("--push_to_hub=star"),
    CONFIG,
    /push_to_hub: "star" is no repository of a hub; give owner\/name/,
  ],
  "a key that is none": [
    words("explain", "lerning_rate"),
    /try: explain learning_rate/,
    /no key "lerning_rate"; did you/,
  ],
  "a shell that is none": [words("completions", "tcsh"), /bash, zsh, fish/, /no completion for "tcsh"/],
  "three answers that are none": [
    words("init", "--to=@/x.yaml", "--model=mochi", "--method=both", "--memory=much"),
    /correct them or leave them out/,
    /--model: "mochi" is neither/,
    /--method: "both" is no way to train/,
    /--memory: "much" is no amount of memory/,
  ],
  "JSON of what has none": [words("lora", "verify", "x", "--json"), /leave it out/, /--json is of train, plan, doctor/],
};

for (const [name, [words, hint, ...says]] of Object.entries(CASES)) {
  Deno.test(`wrong input: ${name}`, () =>
    withCopies(async (folder) => {
      prepare(folder);
      const { error } = await assertRefused(folder, { says }, () => command(words(folder)));
      assert.match(/^Hint: (.*)$/m.exec(error)![1]!, hint);
    }));
}

Deno.test("there are forty wrong inputs and more, some of every command", () => {
  assert.ok(Object.keys(CASES).length >= 40);
  const called = Object.values(CASES).map(([words]) => words("").join(" "));
  for (const name of Object.keys(EXAMPLES)) assert.ok(called.some((words) => words.startsWith(`${name} `)), name);
});
