/** README.md of a pushed model: what the hub reads in its front matter, how diffusers loads it, how it was trained. */
import { existsSync } from "node:fs";
import { stringify } from "yaml";
import type { TrainConfig } from "../../config/config.ts";
import { findModelPath, parseHubId } from "../../models/folder/hub.ts";
import { HUB } from "../init/questions.ts";
import type { PublicCheckpoint } from "./checkpoint_files.ts";

/** Keys that tell how a model came about. None of them holds a path. */
const SETTINGS: readonly (keyof TrainConfig)[] = [
  "training_type",
  "rank",
  "lora_alpha",
  "use_rslora",
  "use_dora",
  "target_modules",
  "train_resolution",
  "batch_size",
  "gradient_accumulation_steps",
  "optimizer",
  "learning_rate",
  "lr_scheduler",
  "mixed_precision",
  "seed",
];

/** What of these says something about adapters alone. */
const LORA_SETTINGS: readonly string[] = ["rank", "lora_alpha", "use_rslora", "use_dora", "target_modules"];

/** The card of a checkpoint that is loaded as `repo`. */
export function modelCard(checkpoint: PublicCheckpoint, repo: string): string {
  const { config, step, videos } = checkpoint;
  const base = baseId(config);
  const task = config.model_type === "i2v" ? "image-to-video" : "text-to-video";
  const trigger = config.id_token?.trim() ?? "";
  const front = {
    ...(base === undefined ? {} : { base_model: base }),
    library_name: "diffusers",
    pipeline_tag: task,
    tags: ["cogvideox", "cogtune", task, ...(config.training_type === "lora" ? ["lora"] : [])],
    ...(trigger === "" ? {} : { instance_prompt: trigger }),
    ...(videos.length === 0
      ? {}
      : { widget: videos.map(({ name, prompt }) => ({ text: prompt, output: { url: name } })) }),
  };
  const kind = config.training_type === "lora" ? "A LoRA for" : "A full fine-tune of";
  return [
    `---\n${stringify(front)}---`,
    `# ${repo.slice(repo.indexOf("/") + 1)}`,
    `${kind} ${base ?? "a CogVideoX model"}, trained with cogtune${step === undefined ? "" : ` for ${step} steps`}.`,
    ...(trigger === "" ? [] : [`**Trigger word**: ${code(trigger)}, in front of the prompt.`]),
    ...(videos.length === 0 ? [] : [["## Videos", ...videos.map(videoLine)].join("\n\n")]),
    `## Use\n\n\`\`\`python\n${snippet(checkpoint, repo, base)}\n\`\`\``,
    `## Settings\n\n| key | value |\n| --- | --- |\n${settingRows(config).join("\n")}`,
  ].join("\n\n") + "\n";
}

/** The hub id of the base model: the one that was given, else that of its released shape; never a path. */
function baseId(config: TrainConfig): string | undefined {
  const { model_path = "", model } = config;
  const id = existsSync(model_path) ? undefined : parseHubId(model_path);
  if (id !== undefined && findModelPath(model_path) !== undefined) return `${id.owner}/${id.name}`;
  return model === undefined ? undefined : HUB[model];
}

/** Text as code of Markdown, whatever it holds. */
function code(text: string): string {
  return `<code>${escaped(text)}</code>`;
}

/** Text without anything that Markdown or HTML would read. */
function escaped(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll(/[&<>"'`|*[\]\\]/g, (found) => `&#${found.charCodeAt(0)};`);
}

function videoLine({ name, prompt }: PublicCheckpoint["videos"][number]): string {
  return `- [${escaped(prompt)}](${name})`;
}

function settingRows(config: TrainConfig): string[] {
  const keys = SETTINGS.filter((key) => config.training_type === "lora" || !LORA_SETTINGS.includes(key));
  const show = (key: string, value: unknown) =>
    escaped(Array.isArray(value) ? value.join(key === "train_resolution" ? "x" : " ") : String(value));
  return keys.filter((key) => config[key] !== undefined).map((key) => `| ${key} | ${show(key, config[key])} |`);
}

/** A program that makes a video with the model. */
function snippet({ config, videos }: PublicCheckpoint, repo: string, base = "path/of/the/base/model"): string {
  const usesImage = config.model_type === "i2v";
  const isLora = config.training_type === "lora";
  const pipeline = usesImage ? "CogVideoXImageToVideoPipeline" : "CogVideoXPipeline";
  const dtype = config.model?.endsWith("2b") ? "torch.float16" : "torch.bfloat16";
  const [frames, height, width] = config.train_resolution;
  const prompt = videos[0]?.prompt ?? `${config.id_token ?? ""}a video`;
  const imports = isLora ? pipeline : `${pipeline}, CogVideoXTransformer3DModel`;
  return [
    "import torch",
    `from diffusers import ${imports}`,
    `from diffusers.utils import export_to_video${usesImage ? ", load_image" : ""}`,
    "",
    ...(isLora
      ? [
        `pipe = ${pipeline}.from_pretrained(${JSON.stringify(base)}, torch_dtype=${dtype})`,
        `pipe.load_lora_weights(${JSON.stringify(repo)})  # alpha comes from the file`,
      ]
      : [
        "transformer = CogVideoXTransformer3DModel.from_pretrained(",
        `    ${JSON.stringify(repo)}, subfolder="transformer", torch_dtype=${dtype}`,
        ")",
        `pipe = ${pipeline}.from_pretrained(${JSON.stringify(base)}, transformer=transformer, torch_dtype=${dtype})`,
      ]),
    "pipe.enable_model_cpu_offload()",
    "video = pipe(",
    ...(usesImage ? ['    image=load_image("first_frame.png"),'] : []),
    `    prompt=${JSON.stringify(prompt).replaceAll("`", "\\u0060")},`,
    `    num_frames=${frames}, height=${height}, width=${width},`,
    ").frames[0]",
    `export_to_video(video, "video.mp4", fps=${config.gen_fps})`,
  ].join("\n");
}
