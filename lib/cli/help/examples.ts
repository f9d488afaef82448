/** Two command lines per command that can be typed as they are, or with names of one's own in them. */
import { outputFlagsOf } from "../settings/output_flags.ts";
import { programCall } from "../show/program_call.ts";
import { ownFlagLines } from "./flag_lines.ts";

const LORA = "runs/first/checkpoint-120/pytorch_lora_weights.safetensors";

/** Words behind the program, by command. */
export const EXAMPLES: Readonly<Record<string, readonly [string, string]>> = {
  train: [
    "train --train_steps 20 --output_dir runs/first",
    "train --preset 5b-lora --model_path THUDM/CogVideoX-5b --data_root my-clips --id_token 'ohwx '",
  ],
  plan: ["plan --preset 5b-lora", "plan --preset 5b-lora --fit 12GiB --gpu rtx-4090"],
  tune: ["tune --preset 2b-lora", "tune --preset 5b-lora --again"],
  sample: [
    `sample --model_path examples/tiny-2b --lora ${LORA} --resolution 9x48x80 --prompt 'a ball'`,
    "sample --model_path THUDM/CogVideoX-5b-I2V --image cat.png --prompt 'a cat' --seed 1 --seed 2",
  ],
  push: [
    "push runs/first --repo my-name/my-lora --dry_run",
    "push runs/first/checkpoint-120 --repo my-name/my-lora --private",
  ],
  doctor: ["doctor", "doctor --json"],
  init: ["init", "init --model 5b --data my-clips --method lora --memory 24 --trigger ohwx --to my-run.yaml"],
  dashboard: ["dashboard runs", "dashboard runs --out compare.html"],
  explain: ["explain lora_alpha", "explain"],
  completions: ["completions bash", "completions fish"],
  "data check": ["data check --data_root examples/clips", "data check --data_root my-clips --html clips.html"],
  "data import": [
    "data import --data_root dataset.csv --to my-clips",
    "data import --data_root other-trainer/clips --to my-clips --prompt 'a video of ohwx'",
  ],
  "config import": [
    "config import train.sh --to mine.yaml",
    "config import 'accelerate launch train.py --model_path THUDM/CogVideoX-5b --training_type lora --rank 64'",
  ],
  "lora inspect": [`lora inspect ${LORA}`, "lora inspect other.safetensors --json"],
  "lora verify": [
    `lora verify ${LORA} --model_path examples/tiny-2b`,
    "lora verify other.safetensors --model_path CogVideoX-5b --alpha 64",
  ],
  "lora merge": [
    `lora merge ${LORA} --model_path examples/tiny-2b --output merged/transformer`,
    "lora merge other.safetensors --model_path CogVideoX-5b --output merged/transformer --strength 0.8 --dtype bf16",
  ],
  "lora extract": [
    "lora extract runs/first/checkpoint-120/transformer --model_path CogVideoX-2b --output tuned.safetensors",
    "lora extract tuned/transformer --model_path CogVideoX-2b --output tuned.safetensors --rank 32",
  ],
  "lora export": [
    `lora export ${LORA} --to comfyui --output comfy.safetensors`,
    "lora export other.safetensors --to peft --output adapter --model_path CogVideoX-5b",
  ],
};

/** The examples of a command, as they are typed. */
export function exampleLines(command: string): string[] {
  const call = programCall();
  const task = ["train", "plan"].includes(command) ? [`  deno task ${command}`] : [];
  return ["EXAMPLES", ...task, ...EXAMPLES[command]!.map((words) => `  ${call} ${words}`)];
}

/** The help of a command whose flags the command-line framework lists. */
export function describedCommand(
  command: string,
  brief: string,
  more: readonly string[] = [],
): { readonly brief: string; readonly fullDescription: string } {
  const about = more.length === 0 ? [] : ["", ...more];
  const output = ["OUTPUT", ...ownFlagLines(outputFlagsOf(command))];
  return { brief, fullDescription: [`${brief}.`, ...about, "", ...exampleLines(command), "", ...output].join("\n") };
}
