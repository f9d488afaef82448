/** Every way in which people have a model: each layout gives the same tensors and token ids as the plain one, or says why not. */
import assert from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { loadTokenizer } from "../../../lib/data/text/tokenizer.ts";
import { UserError } from "../../../lib/errors.ts";
import type { Dtype } from "../../../lib/io/safetensors/dtypes.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { openShards } from "../../../lib/io/safetensors/shards.ts";
import { type TensorToWrite, writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { findModelPath } from "../../../lib/models/folder/hub.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { describeUnused } from "../../../lib/models/folder/unused_tensors.ts";
import { openTransformer } from "../../../lib/models/transformer/file.ts";
import { checkParts } from "../../../lib/train/checks/check_model.ts";
import { tokenizerJson } from "../../data/text/tokenizer_case.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { examples } from "../../train/runs.ts";

const plain = join(examples, "tiny-2b");

/** The parts of a model with weights, and what these are called. */
const PARTS = {
  transformer: "diffusion_pytorch_model",
  vae: "diffusion_pytorch_model",
  text_encoder: "model",
} as const;

/** Renames the weights of every part. */
function renameWeights(model: string, name: (base: string) => string): void {
  for (const [part, base] of Object.entries(PARTS)) {
    renameSync(join(model, part, `${base}.safetensors`), join(model, part, name(base)));
  }
}

function tensorsOf(path: string): TensorToWrite[] {
  using file = openSafetensors(path);
  return [...file.tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape, data: file.readBytes(name) }));
}

/** Writes the weights of a part anew. */
async function rewrite(
  model: string,
  part: keyof typeof PARTS,
  change: (tensors: TensorToWrite[]) => TensorToWrite[],
): Promise<void> {
  const path = join(model, part, `${PARTS[part]}.safetensors`);
  await writeSafetensors(path, change(tensorsOf(path)));
}

/** Cuts the weights of every part in two shards of these names, with an index of that name. */
async function shard(
  model: string,
  shardName: (base: string, part: string) => string,
  indexName: (base: string) => string,
): Promise<void> {
  for (const [part, base] of Object.entries(PARTS)) {
    const path = join(model, part, `${base}.safetensors`);
    const tensors = tensorsOf(path);
    rmSync(path);
    const weightMap: Record<string, string> = {};
    for (const number of [1, 2]) {
      const name = shardName(base, `-0000${number}-of-00002`);
      const own = tensors.filter((_, i) => i % 2 === number - 1);
      await writeSafetensors(join(model, part, name), own);
      for (const tensor of own) weightMap[tensor.name] = name;
    }
    writeFileSync(join(model, part, indexName(base)), JSON.stringify({ metadata: {}, weight_map: weightMap }));
  }
}

/** Moves a model into the layout of Hugging Face's cache; returns the folder of the model. */
function intoCache(model: string, snapshots: readonly string[] = ["c0ffee"]): string {
  const cache = `${model}-hub/models--owner--name`;
  mkdirSync(join(cache, "blobs"), { recursive: true });
  const files = readdirSync(model, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    .map((entry) => relative(model, join(entry.parentPath, entry.name)));
  for (const [i, file] of files.entries()) {
    renameSync(join(model, file), join(cache, "blobs", `blob${i}`));
    for (const snapshot of snapshots) {
      const link = join(cache, "snapshots", snapshot, file);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(relative(dirname(link), join(cache, "blobs", `blob${i}`)), link);
    }
  }
  return cache;
}

function writeMain(cache: string, commit: string): string {
  mkdirSync(join(cache, "refs"));
  writeFileSync(join(cache, "refs", "main"), commit);
  return cache;
}

function writeTokenizerJson(model: string, change: (file: Record<string, unknown>) => void = () => {}): void {
  const file = tokenizerJson(readFileSync(join(model, "tokenizer/spiece.model")));
  change(file);
  rmSync(join(model, "tokenizer/spiece.model"));
  writeFileSync(join(model, "tokenizer/tokenizer.json"), JSON.stringify(file));
}

const zeros = (name: string, shape: number[], dtype: Dtype = "F32"): TensorToWrite => ({
  name,
  dtype,
  shape,
  data: new Uint8Array(shape.reduce((a, b) => a * b, 1) * (dtype === "F8_E4M3" ? 1 : 4)),
});

interface Layout {
  readonly title: string;
  /** Changes a copy of the plain model; returns the path to give when that is another one. */
  readonly change: (model: string) => void | string | Promise<void | string>;
  /** What is said of tensors without use. */
  readonly notes?: readonly RegExp[];
}

const layouts: readonly Layout[] = [
  { title: "a variant in the name", change: (model) => renameWeights(model, (base) => `${base}.fp16.safetensors`) },
  {
    title: "shards of a variant",
    change: (model) =>
      shard(
        model,
        (base, part) => `${base}.fp16${part}.safetensors`,
        (base) => `${base}.safetensors.index.fp16.json`,
      ),
  },
  {
    title: "shards of a variant with the names of other libraries",
    change: (model) =>
      shard(
        model,
        (base, part) => `${base}${part}.fp16.safetensors`,
        (base) => `${base}.fp16.safetensors.index.json`,
      ),
  },
  {
    title: "a variant beside the plain weights, which are the ones to load",
    change: (model) => {
      for (const [part, base] of Object.entries(PARTS)) {
        writeFileSync(join(model, part, `${base}.fp16.safetensors`), "");
      }
    },
  },
  {
    title: "two variants, of which bf16 is the better",
    change: (model) => {
      renameWeights(model, (base) => `${base}.bf16.safetensors`);
      for (const [part, base] of Object.entries(PARTS)) {
        writeFileSync(join(model, part, `${base}.fp16.safetensors`), "");
      }
    },
  },
  {
    title: "a snapshot of Hugging Face's cache, which is links",
    change: (model) => join(intoCache(model), "snapshots", "c0ffee"),
  },
  {
    title: "a model of Hugging Face's cache, whose main branch counts",
    change: (model) => writeMain(intoCache(model, ["abad1dea", "c0ffee"]), "c0ffee\n"),
  },
  { title: "a model of Hugging Face's cache with one snapshot", change: (model) => intoCache(model) },
  { title: "tokenizer.json without spiece.model", change: (model) => writeTokenizerJson(model) },
  {
    title: "tokenizer.json with the steps of newer libraries",
    change: (model) =>
      writeTokenizerJson(model, (file) => {
        const strip = { type: "Strip", strip_left: false, strip_right: true };
        const blanks = { type: "Replace", pattern: { Regex: " {2,}" }, content: "\u2581" };
        file.normalizer = { type: "Sequence", normalizers: [file.normalizer, strip, blanks] };
        file.pre_tokenizer = { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always", split: true };
      }),
  },
  ...["shared.weight", "encoder.embed_tokens.weight"].map((kept): Layout => ({
    title: `embeddings under ${kept} alone`,
    change: (model) =>
      rewrite(model, "text_encoder", (tensors) => {
        const embedding = tensors.find(({ name }) => name === "shared.weight")!;
        return [...tensors.filter(({ name }) => !/shared|embed_tokens/.test(name)), { ...embedding, name: kept }];
      }),
  })),
  {
    title: "embeddings under both names",
    change: (model) =>
      rewrite(model, "text_encoder", (tensors) => {
        const embedding = tensors.find(({ name }) => name === "shared.weight")!;
        const others = tensors.filter(({ name }) => !/embed_tokens/.test(name));
        return [...others, { ...embedding, name: "encoder.embed_tokens.weight" }];
      }),
  },
  {
    title: "tensors that the model does not have",
    change: async (model) => {
      await rewrite(
        model,
        "transformer",
        (tensors) => [...tensors, zeros("ema.decay", [1]), zeros("step", [1], "I32")],
      );
      await rewrite(model, "vae", (tensors) => [...tensors, zeros("loss.logvar", [2])]);
      await rewrite(model, "text_encoder", (tensors) => [
        ...tensors,
        ...["lm_head.weight", "decoder.embed_tokens.weight", "decoder.final_layer_norm.weight", "decoder.x"].map((
          name,
        ) => zeros(name, [2])),
      ]);
    },
    notes: [
      /^transformer: not used, as the model has no such tensors: "ema.decay", "step"$/,
      /^vae: .*"loss.logvar"$/,
      /^text_encoder: .*"decoder.embed_tokens.weight", .* and 1 more$/,
    ],
  },
  {
    title: "an index that lists tensors which are nowhere",
    change: async (model) => {
      await shard(model, (base, part) => `${base}${part}.safetensors`, (base) => `${base}.safetensors.index.json`);
      const path = join(model, "transformer", "diffusion_pytorch_model.safetensors.index.json");
      const index = JSON.parse(readFileSync(path, "utf8"));
      index.weight_map["logit_scale"] = "diffusion_pytorch_model-00002-of-00002.safetensors";
      writeFileSync(path, JSON.stringify({ ...index, comment: "of another library" }));
    },
    notes: [/^transformer: .*"logit_scale"$/],
  },
];

/** Every tensor that the plain model has, and the token ids of a sentence, are the same in both. */
function requireSame(path: string): void {
  for (const [part, base] of Object.entries(PARTS)) {
    using expected = openShards(join(plain, part), base);
    using found = openShards(join(path, part), base);
    for (const name of expected.tensors.keys()) {
      const names = /shared|embed_tokens/.test(name) ? ["shared.weight", "encoder.embed_tokens.weight"] : [name];
      const own = names.find((each) => found.tensors.has(each))!;
      assert.deepEqual(found.readBytes(own), expected.readBytes(name), `${part} ${name}`);
    }
  }
  const prompt = "A quiet harbour,  ＦＵＬＬ of café-coloured boats 🙂 </s> <extra_id_7> x";
  const ids = (model: string) => loadTokenizer(join(model, "tokenizer")).tokenize(prompt);
  assert.deepEqual(ids(path), ids(plain));
}

/** Runs `body` with a copy of the plain model. */
function withModel(body: (model: string) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const model = join(folder, "model");
    cpSync(plain, model, { recursive: true });
    await body(model);
  });
}

for (const { title, change, notes = [] } of layouts) {
  Deno.test(`a model folder with ${title}`, () =>
    withModel(async (model) => {
      const path = await change(model) ?? model;
      const opened = openModelFolder(findModelPath(path)!);
      checkParts(opened);
      requireSame(opened.path);
      assert.deepEqual(opened.transformer, openModelFolder(plain).transformer);
      for (const file of [...opened.vaeFiles, ...opened.textEncoderFiles]) assert.ok(existsSync(file), file);
      const said = describeUnused(opened);
      assert.equal(said.length, notes.length, `${said}`);
      notes.forEach((note, i) => assert.match(said[i]!, note));
      using transformer = openTransformer(opened.path);
      assert.ok([...transformer.source.tensors.keys()].every((name) => !/ema|step/.test(name)));
    }));
}

/** What cogtune can't read, and what it says of it. */
const refused: readonly (Omit<Layout, "notes"> & { readonly message: RegExp })[] = [
  {
    title: "PyTorch pickles only",
    change: (model) => renameWeights(model, (base) => `${base === "model" ? "pytorch_model" : base}.bin`),
    message:
      /PyTorch pickles only \(pytorch_model.bin\).*cogtune reads safetensors[^]*python3 -c[^]*diffusion_pytorch_model.bin/,
  },
  {
    title: "a link to a blob that is not there",
    change: (model) => {
      const cache = intoCache(model);
      const link = join(cache, "snapshots/c0ffee/vae/diffusion_pytorch_model.safetensors");
      rmSync(link);
      symlinkSync("../../../blobs/none", link);
      return cache;
    },
    message: /is a link to a file that is not there/,
  },
  {
    title: "a main branch without snapshot",
    change: (model) => writeMain(intoCache(model), "0ff1ce"),
    message: /refs\/main of .* names the snapshot "0ff1ce", which is not there\n.*give one of .*c0ffee/,
  },
  {
    title: "several snapshots and no main branch",
    change: (model) => intoCache(model, ["abad1dea", "c0ffee"]),
    message: /has 2 snapshots and no refs\/main\n.*give one of .*abad1dea, .*c0ffee/,
  },
  {
    title: "weights with scales",
    change: (model) =>
      rewrite(model, "transformer", (tensors) => [
        ...tensors,
        zeros("transformer_blocks.0.attn1.to_q.scale_weight", [1]),
      ]),
    message:
      /"transformer_blocks.0.attn1.to_q.scale_weight" belongs to a quantised weight: cogtune reads weights without/,
  },
  {
    title: "more blocks than the config says",
    change: (model) =>
      rewrite(model, "transformer", (tensors) => [...tensors, zeros("transformer_blocks.40.norm1.norm.weight", [2])]),
    message: /"transformer_blocks.40.norm1.norm.weight" has no place in the model that config.json describes/,
  },
  {
    title: "weights of whole numbers",
    change: (model) =>
      rewrite(
        model,
        "transformer",
        (tensors) =>
          tensors.map((tensor) =>
            tensor.name === "proj_out.weight" ? zeros(tensor.name, [...tensor.shape], "I32") : tensor
          ),
      ),
    message: /"proj_out.weight" is stored as I32: cogtune reads F32, F16, BF16, F64, F8_E4M3 or F8_E5M2/,
  },
  {
    title: "an autoencoder that halves twice, for other latents",
    change: (model) => {
      const path = join(model, "vae/config.json");
      const config = JSON.parse(readFileSync(path, "utf8"));
      const changes = { block_out_channels: [4, 4, 4], latent_channels: 6, temporal_compression_ratio: 8 };
      writeFileSync(path, JSON.stringify({ ...config, ...changes }));
    },
    message:
      /stands for 4 pixels in each direction: cogtune computes 8 only[^]*temporal_[^]*latent_channels is 6 .* is 16 instead of 6[^]*limits of cogtune/,
  },
  {
    title: "sizes and functions that no kernel computes, all named",
    change: (model) => {
      const path = join(model, "transformer/config.json");
      const config = JSON.parse(readFileSync(path, "utf8"));
      const changes = {
        attention_head_dim: 48,
        text_embed_dim: 30,
        time_embed_dim: 62,
        activation_fn: "swish",
        patch_size: 1,
      };
      writeFileSync(path, JSON.stringify({ ...config, ...changes }));
    },
    message:
      /5 problems[^]*activation_fn is "swish": cogtune computes gelu-approximate only[^]*text_embed_dim is 30: cogtune computes multiples of 4 only[^]*limits of cogtune/,
  },
  {
    title: "a tokenizer of another kind",
    change: (model) =>
      writeTokenizerJson(model, (file) => {
        file.model = { ...(file.model as object), type: "BPE" };
        file.normalizer = { type: "Lowercase" };
      }),
    message: /the only kind that cogtune reads[^]*model.type is "BPE"[^]*normalizer has a step "Lowercase"/,
  },
  {
    title: "a tokenizer.json that is cut",
    change: (model) => {
      writeTokenizerJson(model);
      const path = join(model, "tokenizer/tokenizer.json");
      writeFileSync(path, readFileSync(path).subarray(0, 5000));
    },
    message: /tokenizer.json" is not JSON/,
  },
];

for (const { title, change, message } of refused) {
  Deno.test(`refused: a model folder with ${title}`, () =>
    withModel(async (model) => {
      const path = await change(model) ?? model;
      assert.throws(() => {
        const opened = openModelFolder(findModelPath(path)!);
        checkParts(opened);
        openTransformer(opened.path)[Symbol.dispose]();
      }, (error) => {
        assert.ok(error instanceof UserError, `${error}`);
        assert.match(error.message, message);
        return true;
      });
    }));
}
