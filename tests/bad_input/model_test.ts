/** Model folders that cannot be used: found before anything is encoded, whatever part of the model it is. */
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Dtype } from "../../lib/io/safetensors/dtypes.ts";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../lib/io/safetensors/writer.ts";
import { fileBytes } from "../io/safetensors/fixture.ts";
import { assertRefused, command, trainWords, withCopies } from "./command.ts";

const TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors";

/** What a test does to the copied model, or words that name another; and what the refusal says. */
interface Case {
  readonly spoil: (model: string) => void | Promise<void>;
  readonly words?: (folder: string) => string[];
  readonly says: readonly RegExp[];
}

const nothing = () => {};

function changeJson(file: string, changes: Readonly<Record<string, unknown>>): (model: string) => void {
  return (model) => {
    const path = join(model, file);
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...changes }));
  };
}

/** Replaces one tensor of the transformer, or leaves it out. */
function changeTensor(name: string, change: (tensor: TensorToWrite) => TensorToWrite | undefined) {
  return async (model: string): Promise<void> => {
    const path = join(model, TRANSFORMER);
    const tensors: TensorToWrite[] = [];
    {
      using file = openSafetensors(path);
      for (const [key, { dtype, shape }] of file.tensors) {
        const tensor = { name: key, dtype: dtype as Dtype, shape, data: file.readBytes(key) };
        const kept = key === name ? change(tensor) : tensor;
        if (kept !== undefined) tensors.push(kept);
      }
    }
    await writeSafetensors(path, tensors);
  };
}

function cut(file: string, bytes: number): (model: string) => void {
  return (model) => writeFileSync(join(model, file), readFileSync(join(model, file)).subarray(0, bytes));
}

/** Splits nothing, but lists two shards of which one is there. */
function listShards(second: string): (model: string) => void {
  return (model) => {
    const folder = join(model, "transformer");
    const first = "diffusion_pytorch_model-00001-of-00002.safetensors";
    renameSync(join(model, TRANSFORMER), join(folder, first));
    const weightMap = { "proj_out.weight": first, "proj_out.bias": second };
    writeFileSync(join(model, `${TRANSFORMER}.index.json`), JSON.stringify({ metadata: {}, weight_map: weightMap }));
  };
}

const FOLDERS: Readonly<Record<string, Case>> = {
  "a folder that is not there": {
    spoil: nothing,
    words: (folder) => [`--model_path=${join(folder, "none")}`],
    says: [/model_path "\/.*none": 1 problem/, /"\/.*none" does not exist/, /model_index\.json, transformer\/, vae\//],
  },
  "an empty folder": {
    spoil: (model) => mkdirSync(join(model, "../empty")),
    words: (folder) => [`--model_path=${join(folder, "empty")}`],
    says: [
      /5 problems/,
      /transformer\/config\.json is missing/,
      /tokenizer\/spiece\.model or tokenizer\/tokenizer\.json is missing/,
    ],
  },
  "a file": {
    spoil: nothing,
    words: (folder) => [`--model_path=${join(folder, "model", TRANSFORMER)}`],
    says: [/diffusion_pytorch_model\.safetensors" is no folder/],
  },
  "a part of a model": {
    spoil: nothing,
    words: (folder) => [`--model_path=${join(folder, "model/transformer")}`],
    says: [/transformer\/config\.json is missing/, /vae\/config\.json is missing/],
  },
  "a Stable Diffusion folder": {
    spoil: (model) => {
      changeJson("model_index.json", { _class_name: "StableDiffusionPipeline" })(model);
      renameSync(join(model, "transformer"), join(model, "unet"));
    },
    says: [/transformer\/config\.json is missing/, /model_index\.json says StableDiffusionPipeline: expected a CogVid/],
  },
  "the config of another class": {
    spoil: changeJson("transformer/config.json", { _class_name: "FluxTransformer2DModel" }),
    says: [/transformer\/config\.json: 1 problem/, /_class_name is "FluxTransformer2DModel": expected "CogVideoXTr/],
  },
  "the config of a model with other sizes": {
    spoil: changeJson("transformer/config.json", { num_layers: 3 }),
    says: [/weights in .*transformer/, /missing "transformer_blocks\.2\.attn1\.to_q\.weight" \[128,128\]/],
  },
  "a config with sizes of nothing and of everything": {
    spoil: changeJson("transformer/config.json", { num_layers: 1e9, num_attention_heads: -2, text_embed_dim: "wide" }),
    says: [
      /num_layers is 1000000000: expected a whole number from 1 to 1024/,
      /num_attention_heads is -2: expected a whole number/,
      /text_embed_dim is "wide": expected a number/,
    ],
  },
  "a config that is cut short": {
    spoil: cut("transformer/config.json", 50),
    says: [/transformer\/config\.json" is not JSON/],
  },
  "another model than the config is for": {
    spoil: nothing,
    words: () => ["--model_name=cogvideox1.5-t2v"],
    says: [/model_name is cogvideox1\.5-t2v, but ".*transformer\/config\.json" is of a cogvideox-t2v model/],
  },
  "image to video with a text-to-video model": {
    spoil: nothing,
    words: () => ["--model_name=cogvideox-i2v"],
    says: [/model_name is cogvideox-i2v, but .* is of a cogvideox-t2v model \(patch_size_t null, in_channels 16\)/],
  },
  "a text encoder of another model": {
    spoil: changeJson("transformer/config.json", { text_embed_dim: 64 }),
    says: [/"patch_embed\.text_proj\.weight" has shape \[128,32\]: expected \[128,64\]/],
  },
};

const FILES: Readonly<Record<string, Case>> = {
  "no weights": {
    spoil: (model) => rmSync(join(model, TRANSFORMER)),
    says: [
      /transformer" holds neither diffusion_pytorch_model\.safetensors nor .*index\.json, .*; it holds config\.json/,
    ],
  },
  "a missing shard": {
    spoil: listShards("diffusion_pytorch_model-00002-of-00002.safetensors"),
    says: [
      /index\.json" lists shards that are not there/,
      /"diffusion_pytorch_model-00002-of-00002\.safetensors" is m/,
    ],
  },
  "a shard that is a path": {
    spoil: listShards("../../../../etc/passwd"),
    says: [/index\.json": the shard "\.\.\/.*passwd" of "proj_out\.bias" is not the plain name of a \.safetensors/],
  },
  "empty weights": {
    spoil: cut(TRANSFORMER, 0),
    says: [/diffusion_pytorch_model\.safetensors" is not a safetensors file: it has 0 bytes/],
  },
  "weights cut short": {
    spoil: cut(TRANSFORMER, 300_000),
    says: [/is not a valid safetensors file/, /tensor ".*": ends at byte \d+ of the data, but the file holds only \d+/],
  },
  "a web page for weights": {
    spoil: (model) => writeFileSync(join(model, TRANSFORMER), "<!DOCTYPE html><html>404</html>"),
    says: [/is not a safetensors file but a web page/],
  },
  "a Git LFS pointer for weights": {
    spoil: (model) => writeFileSync(join(model, TRANSFORMER), "version https://git-lfs.github.com/spec/v1\noid 1\n"),
    says: [/is not a safetensors file but a Git LFS pointer/, /git lfs pull/],
  },
  "a header longer than the file": {
    spoil: (model) => writeFileSync(join(model, TRANSFORMER), fileBytes("{}", 0, 2n ** 63n)),
    says: [/the header would have 9223372036854775808 bytes, at most 2 are read/],
  },
  "tensors that overlap": {
    spoil: (model) => {
      const entry = (name: string) => `"${name}":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}`;
      writeFileSync(join(model, TRANSFORMER), fileBytes(`{${entry("a")},${entry("b")}}`, 8));
    },
    says: [/is not a valid safetensors file/, /tensor "b"/, /overlap|begins/],
  },
  "a tensor that stands twice": {
    spoil: (model) => {
      const entry = `"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}`;
      writeFileSync(join(model, TRANSFORMER), fileBytes(`{${entry},${entry}}`, 8));
    },
    says: [/duplicate key "a" in the header/],
  },
  "a tensor that is missing": {
    spoil: changeTensor("proj_out.bias", () => undefined),
    says: [/missing "proj_out\.bias" \[64\]/],
  },
  "a tensor of another shape": {
    spoil: changeTensor("proj_out.bias", (tensor) => ({ ...tensor, shape: [8, 8] })),
    says: [/"proj_out\.bias" has shape \[8,8\]: expected \[64\]/],
  },
  "a tensor of another type": {
    spoil: changeTensor("proj_out.bias", (tensor) => ({ ...tensor, dtype: "I16" })),
    says: [/"proj_out\.bias" is stored as I16: cogtune reads F32, F16, BF16/],
  },
  "a tokenizer of more pieces than the text encoder knows": {
    spoil: (model) => {
      // Messages of protocol buffers are appended to: pieces of one, two, ... letters x, with a score of -9.
      const score = new Uint8Array(Float32Array.of(-9).buffer);
      const pieces = Array.from({ length: 129 }, (_, i) => {
        const text = new Array<number>(i % 100 + 1).fill(0x78 + Math.floor(i / 100));
        const piece = [1 * 8 + 2, text.length, ...text, 2 * 8 + 5, ...score];
        return [1 * 8 + 2, piece.length, ...piece];
      });
      appendFileSync(join(model, "tokenizer/spiece.model"), Uint8Array.from(pieces.flat()));
    },
    says: [/The tokenizer of ".*model" has 1129 pieces, its text_encoder knows 1128: they are parts of different/],
  },
  "damage in every other part": {
    spoil: (model) => {
      cut("text_encoder/model.safetensors", 30_000)(model);
      cut("vae/diffusion_pytorch_model.safetensors", 4)(model);
      writeFileSync(join(model, "tokenizer/spiece.model"), "garbage");
    },
    says: [
      /3 problems/,
      /text_encoder\/model\.safetensors" is not a valid safetensors file/,
      /tokenizer\/spiece\.model" is not a SentencePiece unigram model/,
      /vae\/diffusion_pytorch_model\.safetensors" is not a safetensors file: it has 4 bytes/,
    ],
  },
};

for (const [name, { spoil, words, says }] of Object.entries({ ...FOLDERS, ...FILES })) {
  Deno.test(`train refuses a model with ${name}`, () =>
    withCopies(async (folder) => {
      await spoil(join(folder, "model"));
      await assertRefused(folder, { says }, () => command(trainWords(folder, ...words?.(folder) ?? [])));
    }));
}
