/** Datasets as each trainer's users have them, and what is read from them. */
import { dirname, join } from "node:path";
import type { DatasetOptions } from "../../../lib/data/dataset/format.ts";

/** Files by path, with what `readDataset` makes of them. */
export interface Layout {
  /** Whose layout it is. */
  readonly of: string;
  /** `ROOT` in a text is the folder. */
  readonly files: Readonly<Record<string, string>>;
  /** The file to name in place of the folder. */
  readonly open?: string;
  readonly options?: DatasetOptions;
  readonly format: string;
  /** Prompt, clip and condition picture of each sample; clips hold one letter here. */
  readonly samples: readonly (readonly [prompt: string, clip: string, image?: string])[];
}

/** Lays a dataset out in a folder; `content` is what clips and pictures hold, by their letter. */
export async function layOut(
  { files }: Pick<Layout, "files">,
  folder: string,
  content: (letter: string) => Uint8Array | string,
): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(folder, name)), { recursive: true });
    const value = text.length === 1 ? content(text) : text.replaceAll("ROOT", folder);
    if (typeof value === "string") await Deno.writeTextFile(join(folder, name), value);
    else await Deno.writeFile(join(folder, name), value);
  }
}

const clips = { "clips/a.mp4": "a", "clips/b.mp4": "b" };
const both = [["a cat, running", "clips/a.mp4"], ["a dog", "clips/b.mp4"]] as const;
const lines = (...values: readonly unknown[]) => values.map((value) => `${JSON.stringify(value)}\n`).join("");

export const LAYOUTS: readonly Layout[] = [
  {
    of: "original trainer, text to video",
    files: { ...clips, "prompts.txt": "a cat, running\na dog\n", "videos.txt": "clips/a.mp4\nclips/b.mp4\n" },
    format: "lists",
    samples: both,
  },
  {
    of: "original trainer, image to video",
    files: {
      ...clips,
      "p/a.png": "p",
      "p/b.png": "q",
      "prompts.txt": "a cat, running\na dog\n",
      "videos.txt": "clips/a.mp4\nclips/b.mp4\n",
      "images.txt": "p/a.png\np/b.png\n",
    },
    format: "lists",
    samples: [["a cat, running", "clips/a.mp4", "p/a.png"], ["a dog", "clips/b.mp4", "p/b.png"]],
  },
  {
    of: "finetrainers, two files",
    files: { ...clips, "prompt.txt": "a cat, running\na dog\n", "videos.txt": "clips/a.mp4\nclips/b.mp4\n" },
    format: "lists",
    samples: both,
  },
  {
    of: "finetrainers, CSV",
    files: {
      ...clips,
      "dataset.csv": 'caption,video_file,other\n"a cat, running",clips/a.mp4,1\na dog,clips/b.mp4,2\n',
    },
    format: "table",
    samples: both,
  },
  {
    of: "finetrainers, JSON with several captions",
    files: {
      ...clips,
      "dataset.json": JSON.stringify([
        { short_prompt: "a cat, running", filename: "clips/a.mp4" },
        { short_prompt: "a dog", filename: "clips/b.mp4" },
      ]),
    },
    format: "table",
    samples: both,
  },
  {
    of: "finetrainers, training.json",
    files: {
      ...clips,
      "clips/prompt.txt": "a cat, running\na dog\n",
      "clips/videos.txt": "a.mp4\nb.mp4\n",
      "training.json": JSON.stringify({
        datasets: [{
          data_root: "clips",
          dataset_type: "video",
          id_token: "ohwx",
          video_resolution_buckets: [[9, 32, 48]],
        }],
      }),
    },
    open: "training.json",
    format: "collection",
    samples: [["ohwx a cat, running", "clips/a.mp4"], ["ohwx a dog", "clips/b.mp4"]],
  },
  {
    of: "VideoX-Fun",
    files: {
      ...clips,
      "metadata.json": JSON.stringify([
        { file_path: "clips/a.mp4", text: "a cat, running", type: "video", width: 64, height: 32 },
        { file_path: "clips/b.mp4", text: "a dog", type: "video" },
      ]),
    },
    format: "table",
    samples: both,
  },
  {
    of: "musubi-tuner, JSON Lines",
    files: {
      ...clips,
      "meta.jsonl": lines({ video_path: "clips/a.mp4", caption: "a cat, running" }, {
        video_path: "clips/b.mp4",
        caption: "a dog",
      }),
    },
    format: "table",
    samples: both,
  },
  {
    of: "musubi-tuner, TOML",
    files: {
      "cats/a.mp4": "a",
      "cats/a.txt": "a cat",
      "dogs/m.jsonl": lines({ video_path: "b.mp4", caption: "a dog" }),
      "dogs/b.mp4": "b",
      "dataset.toml": '[general]\nresolution = [960, 544]\n[[datasets]]\nvideo_directory = "cats"\nnum_repeats = 2\n' +
        'target_frames = [1, 25]\n[[datasets]]\nvideo_jsonl_file = "dogs/m.jsonl"\n',
    },
    open: "dataset.toml",
    format: "collection",
    samples: [["a cat", "cats/a.mp4"], ["a dog", "dogs/b.mp4"], ["a cat", "cats/a.mp4"]],
  },
  {
    of: "diffusion-pipe, TOML",
    files: {
      "cats/a.mp4": "a",
      "cats/a.txt": "runs",
      "dataset.toml": 'resolutions = [512]\n[[directory]]\npath = "cats"\nnum_repeats = 1\ncaption_prefix = "ohwx "\n',
    },
    format: "collection",
    samples: [["ohwx runs", "cats/a.mp4"]],
  },
  {
    of: "diffusion-pipe, captions.json",
    files: { "a.mp4": "a", "b.mp4": "b", "captions.json": '{"a.mp4": ["a cat, running", "a cat"], "b.mp4": "a dog"}' },
    format: "table",
    samples: [["a cat, running", "a.mp4"], ["a dog", "b.mp4"]],
  },
  {
    of: "SimpleTuner",
    files: {
      "cats/a.mp4": "a",
      "dogs/b.mp4": "b",
      "dogs/b.txt": "sleeps",
      "multidatabackend.json": JSON.stringify([
        {
          id: "cats",
          type: "local",
          dataset_type: "video",
          instance_data_dir: "cats",
          caption_strategy: "instanceprompt",
          instance_prompt: "ohwx cat",
          repeats: 1,
        },
        { id: "dogs", instance_data_dir: "dogs", caption_strategy: "textfile" },
        { id: "text", dataset_type: "text_embeds", type: "local", cache_dir: "cache/text", default: true },
      ]),
    },
    format: "collection",
    samples: [["ohwx cat", "cats/a.mp4"], ["sleeps", "dogs/b.mp4"], ["ohwx cat", "cats/a.mp4"]],
  },
  {
    of: "clips with captions beside them, in subfolders",
    files: {
      "x/a.mp4": "a",
      "x/a.txt": "a cat,\n running \n",
      "x/y/b.webm": "b",
      "x/y/b.webm.txt": "a dog",
      "x/a.png": "p",
      "notes.md": "n",
    },
    format: "captions",
    samples: [["a cat, running", "x/a.mp4", "x/a.png"], ["a dog", "x/y/b.webm"]],
  },
  {
    of: "Hugging Face metadata.csv",
    files: { ...clips, "clips/metadata.csv": 'file_name,text\na.mp4,"a cat, running"\nb.mp4,a dog\n' },
    open: "clips/metadata.csv",
    format: "table",
    samples: [["a cat, running", "a.mp4"], ["a dog", "b.mp4"]],
  },
  {
    of: "Hugging Face metadata.jsonl, CogKit text to video",
    files: {
      "train/a.mp4": "a",
      "train/b.mp4": "b",
      "train/metadata.jsonl": lines({ file_name: "a.mp4", prompt: "a cat, running" }, {
        file_name: "b.mp4",
        prompt: "a dog",
      }),
    },
    format: "table",
    samples: [["a cat, running", "train/a.mp4"], ["a dog", "train/b.mp4"]],
  },
  {
    of: "CogKit, image to video",
    files: {
      "train/metadata.jsonl": lines({ id: 1, prompt: "a dog" }, { id: 0, prompt: "a cat, running" }),
      "train/videos/metadata.jsonl": lines({ id: 0, file_name: "a.mp4" }, { id: 1, file_name: "b.mp4" }),
      "train/images/metadata.jsonl": lines({ id: 1, file_name: "b.png" }, { id: 0, file_name: "a.png" }),
      "train/videos/a.mp4": "a",
      "train/videos/b.mp4": "b",
      "train/images/a.png": "p",
      "train/images/b.png": "q",
    },
    format: "cogkit",
    samples: [
      ["a cat, running", "train/videos/a.mp4", "train/images/a.png"],
      ["a dog", "train/videos/b.mp4", "train/images/b.png"],
    ],
  },
  {
    of: "tab-separated table with condition pictures",
    files: { ...clips, "a.png": "p", "list.tsv": "video\timage\tdescription\nclips/a.mp4\ta.png\ta cat, running\n" },
    format: "table",
    samples: [["a cat, running", "clips/a.mp4", "a.png"]],
  },
  {
    of: "several datasets with repeats",
    files: {
      "cats/a.mp4": "a",
      "dogs/list.csv": "video,caption\nb.mp4,a dog\n",
      "dogs/b.mp4": "b",
      "datasets.yaml": "- path: cats\n  repeats: 3\n  prompt: a cat\n- path: dogs/list.csv\n  prefix: 'see '\n",
    },
    format: "collection",
    samples: [["a cat", "cats/a.mp4"], ["see a dog", "dogs/b.mp4"], ["a cat", "cats/a.mp4"], ["a cat", "cats/a.mp4"]],
  },
  {
    of: "several datasets with weights",
    files: {
      "cats/a.mp4": "a",
      "cats/b.mp4": "b",
      "dogs/b.mp4": "b",
      "datasets.yaml": "- path: cats\n  weight: 1\n  prompt: a cat\n- path: dogs\n  weight: 1\n  prompt: a dog\n",
    },
    format: "collection",
    samples: [["a cat", "cats/a.mp4"], ["a cat", "cats/b.mp4"], ["a dog", "dogs/b.mp4"], ["a dog", "dogs/b.mp4"]],
  },
  {
    of: "absolute paths inside the folder",
    files: { ...clips, "list.csv": 'video,caption\nROOT/clips/a.mp4,"a cat, running"\nROOT/clips/b.mp4,a dog\n' },
    format: "table",
    samples: both,
  },
  {
    of: "absolute paths to another folder",
    files: { ...clips, "lists/list.jsonl": lines({ video: "ROOT/clips/a.mp4", caption: "a cat, running" }) },
    open: "lists",
    options: { allowOutside: true },
    format: "table",
    samples: [["a cat, running", "../clips/a.mp4"]],
  },
  {
    of: "clips alone, with an identifier token",
    files: clips,
    options: { idToken: "ohwx" },
    format: "captions",
    samples: [["ohwx", "clips/a.mp4"], ["ohwx", "clips/b.mp4"]],
  },
  {
    of: "clips alone, with one prompt for all",
    files: clips,
    options: { prompt: "a pet" },
    format: "captions",
    samples: [["a pet", "clips/a.mp4"], ["a pet", "clips/b.mp4"]],
  },
  {
    of: "pictures as clips of one frame",
    files: { "a.png": "p", "a.txt": "a cat", "more/b.png": "q", "more/b.txt": "a dog" },
    options: { frames: 1 },
    format: "captions",
    samples: [["a cat", "a.png"], ["a dog", "more/b.png"]],
  },
];
