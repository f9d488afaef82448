/**
 * Everything that reads bytes of strangers in this process, and what may come of it: a value, or a UserError. PNG is not among
 * them: pictures are read by ffmpeg, and this program only writes PNG.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "../../../lib/config/config.ts";
import { readYaml } from "../../../lib/config/sources.ts";
import { Tokenizer } from "../../../lib/data/text/tokenizer.ts";
import { parseTokenizerJson } from "../../../lib/data/text/tokenizer_json.ts";
import { parseUnigramModel } from "../../../lib/data/text/unigram_model.ts";
import { alphasCumprod, parseScheduleConfig } from "../../../lib/diffusion/schedule.ts";
import { UserError } from "../../../lib/errors.ts";
import { readManifest } from "../../../lib/io/commit_folder.ts";
import { readJsonObject } from "../../../lib/io/json_file.ts";
import { JsonScanner } from "../../../lib/io/json_scanner.ts";
import { parseHeader } from "../../../lib/io/safetensors/header.ts";
import { openShards } from "../../../lib/io/safetensors/shards.ts";
import { parseLoraKey } from "../../../lib/models/lora/keys.ts";
import { adapterEntry, ownEntry, readDescription } from "../../../lib/models/lora/metadata.ts";
import { parseT5Config } from "../../../lib/models/t5/config.ts";
import { parseTransformerConfig } from "../../../lib/models/transformer/config.ts";
import { parseVaeConfig } from "../../../lib/models/vae/config.ts";
import { MetricsLog } from "../../../lib/train/report/metrics_log.ts";
import { fromFileUrl } from "../../paths.ts";
import { tokenizerJson } from "../../data/text/tokenizer_case.ts";

/** One reader. */
export interface Target {
  /** Sound inputs. */
  readonly seeds: readonly Uint8Array[];
  /** Bytes that mean something in this format. */
  readonly words: readonly string[];
  /** Reads; throws UserError for what it refuses, AssertionError for a wrong answer. */
  readonly read: (bytes: Uint8Array) => void;
  /** Its share of all inputs. */
  readonly share: number;
}

const encoder = new TextEncoder();
const lenient = new TextDecoder();
const bytesOf = (...texts: readonly string[]) => texts.map((text) => encoder.encode(text));
const json = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "null",
  "true",
  '"__proto__":',
  '"constructor":',
  "\\ud800",
  "\\u0000",
];

const header = (tensors: object) => JSON.stringify({ __metadata__: { format: "pt" }, ...tensors });
const tensor = (begin: number, end: number, shape: number[]) => ({ dtype: "F32", shape, data_offsets: [begin, end] });
const DATA_BYTES = 48;

/** A protocol-buffers field of bytes. */
const field = (number: number, content: Uint8Array) => Uint8Array.of(8 * number + 2, content.length, ...content);

function piece(text: string, score: number, type: number): Uint8Array {
  const value = new Uint8Array(Float32Array.of(score).buffer);
  return field(1, Uint8Array.of(...field(1, encoder.encode(text)), 0x15, ...value, 0x18, type));
}

/** A T5 vocabulary of eight pieces and a rule that turns nothing into anything. */
const vocabulary = Uint8Array.of(
  ...[piece("<pad>", 0, 3), piece("</s>", 0, 3), piece("<unk>", 0, 2), piece("\u2581", -2, 1)].flatMap((p) => [...p]),
  ...[piece("\u2581a", -3, 1), piece("b", -4, 1), piece("ab", -4.5, 1), piece("x", -5, 4)].flatMap((p) => [...p]),
  ...field(2, Uint8Array.of(0x18, 1)),
  ...field(3, field(2, Uint8Array.of(4, 0, 0, 0, 0, 4, 0, 0, 98, 0))),
);

const tinyModel = fromFileUrl("../../../examples/tiny-2b", import.meta.url);
const modelFile = (name: string) => readFileSync(join(tinyModel, name));

/** Reads the configs of a model with what another file says. */
function readModelConfig(bytes: Uint8Array, parse: (json: Record<string, unknown>) => unknown): void {
  let value: unknown;
  try {
    value = JSON.parse(lenient.decode(bytes));
  } catch {
    return;
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) parse(value as Record<string, unknown>);
}

/** All readers; `folder` takes the files of those that read files. */
export function targetsIn(folder: string): Readonly<Record<string, Target>> {
  mkdirSync(folder, { recursive: true });
  const file = (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  return {
    "safetensors header": {
      share: 30,
      seeds: bytesOf(
        header({ a: tensor(0, 16, [2, 2]), b: tensor(16, 48, [8]) }),
        header({ x: tensor(0, 48, [3, 4]) }),
        `{"a":{"dtype":"U8","shape":[48],"data_offsets":[0,48]}}   `,
      ),
      words: [...json, '"dtype"', '"shape"', '"data_offsets"', '"F32"', '"BF16"', '"F4"', '"__metadata__":', "[0,48]"],
      read(bytes) {
        const { tensors } = parseHeader(bytes, 8 + bytes.length, 8 + bytes.length + DATA_BYTES, "x");
        // Whatever is accepted covers the data exactly.
        const spans = [...tensors.values()].map(({ byteOffset, byteLength }) => [byteOffset, byteLength] as const);
        let at = 8 + bytes.length;
        for (const [offset, length] of spans.sort(([a, m], [b, n]) => a - b || m - n)) {
          assert.equal(offset, at);
          at += length;
        }
        assert.equal(at, 8 + bytes.length + DATA_BYTES);
      },
    },
    "JSON": {
      share: 25,
      seeds: bytesOf('{"a":[1,2.5e3,{"b":null}],"c":"\\u00e9\\n","d":true}', "[[],{},-1,0]", '"\\ud83d\\ude00"'),
      words: json,
      read(bytes) {
        const text = lenient.decode(bytes);
        const scanner = new JsonScanner(text, "x");
        scanner.skip("it");
        scanner.end();
        // It may refuse more than JSON.parse, never less.
        JSON.parse(text);
      },
    },
    "YAML": {
      share: 4,
      seeds: bytesOf(
        "preset: 5b-lora\ndata_root: clips\nrank: 64\nlearning_rate: 1e-4\n",
        'validation_prompts: [a, "b\\n", c]\n# comment\nid_token: |\n  text\n',
        "? x\n: y\n",
      ),
      words: [
        ": ",
        "- ",
        "\n",
        "\t",
        "&a ",
        "*a",
        "!!js/function ",
        "<<: ",
        "{",
        "[",
        "'",
        '"',
        "|",
        ">-",
        "---\n",
        "%YAML 1.2\n",
      ],
      read: (bytes) => void readYaml(lenient.decode(bytes), "x"),
    },
    "config": {
      share: 1,
      seeds: bytesOf(
        "model: 2b\ndata_root: clips\nrank: 64\noutput_dir: out\n",
        "preset: 5b-lora\ntrain_resolution: 49x480x720\n",
      ),
      words: [
        ": ",
        "\n",
        "__proto__",
        "constructor",
        "null",
        ".nan",
        ".inf",
        "1e400",
        "[",
        "]",
        "rank",
        "train_steps",
        "gpus",
      ],
      read: (bytes) => void parseConfig(lenient.decode(bytes)),
    },
    "LoRA metadata": {
      share: 12,
      seeds: bytesOf(
        JSON.stringify({ "transformer.r": 4, "transformer.lora_alpha": 4, "transformer.alpha_pattern": { to_q: 2 } }),
        JSON.stringify({ version: 1, rank: 4, alpha: 8, base: { name: "x" } }),
        JSON.stringify({ r: 4, lora_alpha: 4, use_rslora: true, rank_pattern: { "blocks.0": 8 } }),
      ),
      words: [
        ...json,
        '"lora_alpha"',
        '"alpha"',
        '"rank_pattern"',
        '"alpha_pattern"',
        '"use_dora":true',
        '"^(?:a+)+$"',
        "(a*)*b",
      ],
      read(bytes) {
        const text = lenient.decode(bytes);
        const { alphaOf } = readDescription(new Map([[ownEntry, text], [adapterEntry, text]]), "x", text);
        alphaOf("transformer_blocks.0.attn1.to_q", 4);
      },
    },
    "LoRA keys": {
      share: 8,
      seeds: bytesOf(
        "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight",
        "base_model.model.transformer_blocks.1.attn1.to_out.0.lora_B.default.weight",
        "lora_unet_transformer_blocks_0_attn1_to_k.lora_down.weight",
        "diffusion_model.blocks.0.ff.net.0.proj.alpha",
      ),
      words: ["transformer.", ".", "_", "lora_A", "lora_B", ".alpha", "lora_unet_", "weight", "0", "blocks"],
      read: (bytes) => void parseLoraKey(lenient.decode(bytes)),
    },
    "tokenizer protobuf": {
      share: 12,
      seeds: [vocabulary, piece("a", -1, 1), vocabulary.subarray(0, 60)],
      words: ["<pad>", "</s>", "<unk>", "\u2581", "\n", "\x12", "\x1a", "\xff\xff\xff\xff\x0f"],
      read: (bytes) => void parseUnigramModel(bytes, "x"),
    },
    "tokenizer": {
      share: 1,
      seeds: [vocabulary],
      words: ["<pad>", "</s>", "<unk>", "\u2581", "b\0", "\u0001"],
      read(bytes) {
        const ids = new Tokenizer(parseUnigramModel(bytes, "x"), "x").encode("ab \u2581 b<pad>\u00e9", 8);
        assert.equal(ids.length, 8);
      },
    },
    "tokenizer.json": {
      share: 2,
      seeds: bytesOf(JSON.stringify({ ...tokenizerJson(vocabulary), added_tokens: [] })),
      words: ["Unigram", "Precompiled", "Metaspace", "Sequence", "\u2581", '["<pad>",0]', "null", "unk_id", "always"],
      read(bytes) {
        const model = parseTokenizerJson(lenient.decode(bytes), "x");
        assert.equal(new Tokenizer(model, "x").encode("ab \u2581 b<pad>\u00e9", 8).length, 8);
      },
    },
    "model configs": {
      share: 4,
      seeds: [
        ...["transformer/config.json", "vae/config.json", "text_encoder/config.json"].map(modelFile),
        modelFile("scheduler/scheduler_config.json"),
      ],
      words: [
        ...json,
        "1e308",
        "-1",
        "0.5",
        "[]",
        '"v_prediction"',
        '"snr_shift_scale"',
        '"num_layers"',
        '"block_out_channels"',
      ],
      read(bytes) {
        const parsers = [
          (value: Record<string, unknown>) => parseTransformerConfig(value, "x"),
          (value: Record<string, unknown>) => parseVaeConfig(value, "x"),
          (value: Record<string, unknown>) => parseT5Config(value, "x"),
          (value: Record<string, unknown>) =>
            assert.ok(alphasCumprod(parseScheduleConfig(value, "x")).every(Number.isFinite)),
        ];
        for (const parse of parsers) {
          try {
            readModelConfig(bytes, parse);
          } catch (error) {
            if (!(error instanceof UserError)) throw error;
          }
        }
      },
    },
    "manifest": {
      share: 1,
      seeds: bytesOf(JSON.stringify({ version: 1, files: [{ name: "a/b", size: 3, sha256: "0".repeat(64) }] })),
      words: [...json, '"version":1', '"files"', '"name"', "../", "/etc/passwd", "\\\\", "0".repeat(64)],
      read(bytes) {
        file("manifest.json", bytes);
        for (const { name } of readManifest(folder)) assert.doesNotMatch(name, /^\/|(^|[/\\])\.\.?([/\\]|$)/);
      },
    },
    "index of shards": {
      share: 1,
      seeds: bytesOf(JSON.stringify({ metadata: { total_size: 4 }, weight_map: { a: "a.safetensors" } })),
      words: [...json, '"weight_map"', "../", "/etc/x.safetensors", ".safetensors"],
      read(bytes) {
        file("m.safetensors.index.json", bytes);
        openShards(folder, "m")[Symbol.dispose]();
      },
    },
    "small JSON files": {
      share: 1,
      seeds: bytesOf('{"step":3,"applied":3,"lossScale":{"value":1,"goodSteps":0}}'),
      words: json,
      read: (bytes) => void readJsonObject(file("trainer.json", bytes)),
    },
    "metrics of a run": {
      share: 1,
      seeds: bytesOf(
        '{"type":"step","step":1,"loss":0.5}\n{"type":"step","step":2,"loss":"NaN"}\n{"type":"heldout","step":2,"loss":1}\n',
      ),
      words: [...json, "\n", '"step":', '"type":"heldout"', "3"],
      read(bytes) {
        const path = file("metrics.jsonl", bytes);
        new MetricsLog(path, { resumeStep: 2 })[Symbol.dispose]();
        const kept = readFileSync(path);
        assert.ok(bytes.length >= kept.length && kept.every((byte, i) => byte === bytes[i]));
      },
    },
  };
}
