/** What a finished run has made, and the commands that go on from there. */
import { join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import { properties } from "../../config/schema.ts";
import { PAGE_NAME } from "../../sample/page.ts";
import type { ExampleRequest, FinishedEvent } from "../../train/report/events.ts";
import { programCall, quoted } from "./program_call.ts";
import { shortPath } from "./short_path.ts";

/** How `sample` makes the videos that the run has validated with. */
const SAMPLING = ["sampler", "num_inference_steps", "guidance_scale"] as const;

/**
 * Lines that name the result and say how to look at it and how to continue an interrupted run; `example` is a prompt to
 * try.
 */
export function nextSteps(
  config: TrainConfig,
  { path: folder, interrupted }: FinishedEvent,
  { prompt, image }: ExampleRequest = { prompt: "..." },
): string[] {
  const command = (...words: string[]) => `  ${programCall()} ${words.map(quoted).join(" ")}`;
  const path = shortPath(folder);
  const output = shortPath(config.output_dir);
  const model = config.model_path === undefined ? undefined : shortPath(config.model_path);
  const isLora = config.training_type === "lora";
  const result = join(path, isLora ? "pytorch_lora_weights.safetensors" : "transformer");
  const settings = SAMPLING.filter((key) => config[key] !== properties[key]!.default);
  const request = [
    ...["--resolution", config.train_resolution.join("x")],
    ...settings.flatMap((key) => [`--${key}`, `${config[key]}`]),
    ...(image === undefined ? [] : ["--image", image]),
    ...["--prompt", prompt],
  ];
  return [
    `Result: ${result}`,
    `Page of the run${config.do_validation ? ", with its videos" : ""}: ${join(output, PAGE_NAME)}`,
    ...(interrupted ? ["Continue with the same command and:", `  --resume_from_checkpoint ${quoted(path)}`] : []),
    ...(model === undefined
      ? ["It belongs to random weights and random clips: what this run was good for are its times and its memory."]
      : isLora
      ? [
        "Make a video:",
        command("sample", "--model_path", model, "--lora", result, ...request),
        "Look at the LoRA:",
        command("lora", "verify", result, "--model_path", model),
      ]
      : [`Use it in place of ${join(model, "transformer")}.`]),
  ];
}
