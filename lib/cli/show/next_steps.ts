/** What a finished run has made, and the commands that go on from there. */
import { join } from "node:path";
import type { TrainConfig } from "../../config/config.ts";
import type { FinishedEvent } from "../../train/report/events.ts";

/** A word as a shell reads it back. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Lines that name the result and say how to look at it and how to continue an interrupted run. */
export function nextSteps(config: TrainConfig, { path, interrupted }: FinishedEvent): string[] {
  const command = (...words: string[]) => `  ${["deno", "run", "-A", "mod.ts", ...words].map(quoted).join(" ")}`;
  const resolution = ["--resolution", config.train_resolution.join("x")];
  const model = config.model_path!;
  const isLora = config.training_type === "lora";
  const result = join(path, isLora ? "pytorch_lora_weights.safetensors" : "transformer");
  const prompt = config.model_type === "i2v" ? ["--image", "first.png", "--prompt", "..."] : ["--prompt", "..."];
  return [
    `Result: ${result}`,
    ...(interrupted ? ["Continue with the same command and:", `  --resume_from_checkpoint ${quoted(path)}`] : []),
    ...(config.use_dora && isLora
      ? [
        "Add the DoRA to the weights:",
        command("lora", "merge", result, "--model_path", model, "--output", join(config.output_dir, "transformer")),
      ]
      : isLora
      ? [
        "Make a video:",
        command("sample", "--model_path", model, "--lora", result, ...resolution, ...prompt),
        "Look at the LoRA:",
        command("lora", "verify", result, "--model_path", model),
      ]
      : [`Use it in place of ${join(model, "transformer")}.`]),
  ];
}
