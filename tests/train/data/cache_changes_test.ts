/** Forty-six kinds of change to a run, its dataset and its model, 22 of them at once: exactly the cache entries that a change affects get new names. */
import assert from "node:assert/strict";
import { appendFileSync, cpSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheKey } from "../../../lib/data/cache/key.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { prepareData } from "../../../lib/train/data/prepare_data.ts";
import { configOf, examples, inScratch } from "../runs.ts";

/** What a change does, and the entries that it must rename: kinds, all of them or those of one clip. */
interface Change {
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly files?: (folder: string) => void;
  readonly renames: readonly string[];
}

const pixels = ["latent ball", "latent fractal", "image ball", "image fractal"];
const latents = ["latent ball", "latent fractal"];
const images = ["image ball", "image fractal"];
const prompts = ["prompt ball", "prompt fractal"];

/** Changes the middle byte of a file and sets its times back: only the content tells. */
function flip(...names: string[]): (folder: string) => void {
  return (folder) => {
    const path = join(folder, ...names);
    const { atime, mtime } = statSync(path);
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    utimesSync(path, atime, mtime);
  };
}

/** Adds bytes that no player reads. */
const extend = (name: string) => (folder: string) => appendFileSync(join(folder, "clips/videos", name), "free");

function edit(name: string, from: string | RegExp, to: string): (folder: string) => void {
  return (folder) => {
    const path = join(folder, name);
    const text = readFileSync(path, "utf8");
    assert.notEqual(text.replace(from, to), text, name);
    writeFileSync(path, text.replace(from, to));
  };
}

function swap(list: string): (folder: string) => void {
  return (folder) => {
    const path = join(folder, "clips", list);
    writeFileSync(path, readFileSync(path, "utf8").trim().split("\n").reverse().join("\n") + "\n");
  };
}

const set = (settings: Readonly<Record<string, unknown>>, renames: readonly string[]): Change => ({
  settings,
  renames,
});

/** Twenty-two settings of training, none of which says what is encoded. */
const trained = {
  learning_rate: 1e-5,
  rank: 8,
  lora_alpha: 2,
  target_modules: ["to_q"],
  train_steps: 9,
  batch_size: 2,
  gradient_accumulation_steps: 2,
  gradient_checkpointing: false,
  optimizer: "adam",
  beta1: 0.8,
  weight_decay: 0.1,
  max_grad_norm: 2,
  lr_scheduler: "cosine",
  lr_warmup_steps: 1,
  checkpointing_steps: 3,
  checkpointing_limit: 3,
  mixed_precision: "fp16",
  reduction: "ring",
  log_every: 2,
  cache_limit: 7,
  condition_dropout: 0.5,
  caption_dropout: 0.5,
};

const changes: Readonly<Record<string, Change>> = {
  // What is encoded.
  "frames": set({ train_resolution: "17x32x48" }, latents),
  "height": set({ train_resolution: "9x48x48" }, pixels),
  "width": set({ train_resolution: "9x32x64" }, pixels),
  "frame rate": set({ fps: 16 }, latents),
  "a choice of frames that comes to the same": set({ frame_selection: "stride" }, []),
  "letterbox": set({ crop: "letterbox" }, pixels),
  "stretching": set({ crop: "stretch" }, pixels),
  "tiles": set({ enable_tiling: false }, pixels),
  // The first image of a batch keeps the strength that it has on its own.
  "noise on images": set({ image_noise: "per_batch" }, ["image fractal"]),
  "seed": set({ seed: 7 }, images),
  "id token": set({ id_token: "ohwx " }, prompts),
  "everything that says how to train": set(trained, []),
  // The dataset.
  "bytes of one clip": { files: extend("ball.mp4"), renames: ["latent ball", "image ball"] },
  "bytes of the other clip": { files: extend("fractal.mp4"), renames: ["latent fractal", "image fractal"] },
  "time of a clip": { files: (folder) => utimesSync(join(folder, "clips/videos/ball.mp4"), 1, 1), renames: [] },
  "words of one prompt": { files: edit("clips/prompts.txt", "red", "blue"), renames: ["prompt ball"] },
  "a space at the end of a prompt": { files: edit("clips/prompts.txt", ".\n", "!\n"), renames: ["prompt ball"] },
  "prompts the other way round": { files: swap("prompts.txt"), renames: prompts },
  "another name of the folder of clips": {
    files(folder) {
      renameSync(join(folder, "clips/videos"), join(folder, "clips/films"));
      edit("clips/videos.txt", /videos/g, "films")(folder);
    },
    renames: [],
  },
  // The model.
  "weights of the VAE": { files: flip("model/vae/diffusion_pytorch_model.safetensors"), renames: pixels },
  "config of the VAE": { files: edit("model/vae/config.json", "{", '{"x":1,'), renames: pixels },
  "config of the text encoder": { files: edit("model/text_encoder/config.json", "{", '{"x":1,'), renames: prompts },
  "vocabulary": { files: flip("model/tokenizer/spiece.model"), renames: prompts },
  "tokens": {
    files: edit("model/transformer/config.json", /"max_text_seq_length": *\d+/, '"max_text_seq_length": 17'),
    renames: prompts,
  },
  "weights of the transformer": { files: flip("model/transformer/diffusion_pytorch_model.safetensors"), renames: [] },
  "noise schedule": { files: edit("model/scheduler/scheduler_config.json", "{", '{"x":1,'), renames: [] },
};

/** Names of all entries of a run on the folder, by kind and clip. */
async function entries(folder: string, settings: Readonly<Record<string, unknown>>): Promise<Map<string, string>> {
  const kind = { model: "tiny-5b-i2v", model_name: "cogvideox-i2v", model_path: join(folder, "model") };
  const config = configOf(folder, { ...kind, ...settings });
  using data = await prepareData(config, openModelFolder(config.model_path!));
  const clip = (path: string) => /(\w+)\.mp4$/.exec(path)![1]!;
  return new Map(data.samples.flatMap(({ item, latent, prompt, variants }) => [
    [`latent ${clip(item.videoPath)}`, cacheKey(latent)],
    [`prompt ${clip(item.videoPath)}`, cacheKey(prompt)],
    [`image ${clip(item.videoPath)}`, variants.map(cacheKey).join()],
  ]));
}

Deno.test("a change renames exactly the cache entries that it affects", () =>
  inScratch(async (folder) => {
    for (const list of ["videos.txt", "prompts.txt"]) {
      const path = join(folder, "clips", list);
      writeFileSync(path, readFileSync(path, "utf8").split("\n").slice(0, 2).join("\n") + "\n");
    }
    cpSync(join(examples, "tiny-2b"), join(folder, "model"), { recursive: true });
    const before = await entries(folder, {});
    assert.equal(new Set(before.values()).size, 6);
    const wrong: string[] = [];
    for (const [name, { settings = {}, files, renames }] of Object.entries(changes)) {
      const copy = files === undefined ? folder : Deno.makeTempDirSync({ dir: folder });
      if (files !== undefined) {
        for (const part of ["clips", "model"]) cpSync(join(folder, part), join(copy, part), { recursive: true });
        files(copy);
      }
      const after = await entries(copy, settings);
      assert.deepEqual([...after.keys()].sort(), [...before.keys()].sort(), name);
      const changed = [...before.keys()].filter((entry) => before.get(entry) !== after.get(entry));
      if (`${changed.sort()}` !== `${[...renames].sort()}`) {
        wrong.push(`${name} renames ${changed}, expected ${renames}`);
      }
    }
    assert.deepEqual(wrong, []);
  }));
