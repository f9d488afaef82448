/**
 * The example model's tokenizer and text encoder. Nothing in them is trained: every word of the toy world is one token, every
 * other word is spelled, and a token's vector is a random direction of its own, wherever it stands.
 */
import { join } from "node:path";
import { RandomStream } from "../../lib/data/random/random.ts";
import { pieceType } from "../../lib/data/text/unigram_model.ts";
import { writeFileAtomic } from "../../lib/io/atomic.ts";
import { encodeF32 } from "../../lib/io/safetensors/half.ts";
import { writeSafetensors } from "../../lib/io/safetensors/writer.ts";
import { t5ParameterShapes } from "../../lib/models/t5/config.ts";
import { type Colour, COLOURS, type Direction, DIRECTIONS, promptOf, type Shape, SHAPES } from "./world.ts";

/** Width of the vectors: room for directions that are nearly orthogonal, of 170 tokens. */
export const TEXT_WIDTH = 64;

/** Tokens of a prompt: the longest sentence of the toy world has 8 with its end. */
export const TEXT_LENGTH = 16;

/** `<extra_id_0>` to `<extra_id_99>`, which T5 has behind its pieces. */
const SENTINELS = 100;

const SPELLING = [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'-"];

/** Every word that a sentence of the toy world can hold. */
function words(): string[] {
  const sentences = Object.keys(COLOURS).flatMap((colour) =>
    Object.keys(SHAPES).flatMap((shape) =>
      Object.keys(DIRECTIONS).map((way) => promptOf(colour as Colour, shape as Shape, way as Direction))
    )
  );
  return [...new Set(sentences.flatMap((sentence) => sentence.split(" ")))];
}

/** Bytes of a protocol-buffers field that holds bytes. */
function field(number: number, bytes: Uint8Array): number[] {
  if (bytes.length > 127) throw new RangeError(`Cannot write ${bytes.length} bytes under a length of one byte`);
  return [8 * number + 2, bytes.length, ...bytes];
}

/** SentencePiece's ModelProto: pieces, unigram as the kind of model, no rules of normalisation. */
function sentencePieceModel(): { bytes: Uint8Array; count: number } {
  const normal = (text: string, score: number) => ({ text, score, type: pieceType.normal });
  const pieces = [
    { text: "<pad>", score: 0, type: pieceType.control },
    { text: "</s>", score: 0, type: pieceType.control },
    { text: "<unk>", score: 0, type: pieceType.unknown },
    ...words().map((word) => normal(`\u2581${word}`, -1)),
    // Spelled words are worse than whole ones, however short.
    ...["\u2581", ...SPELLING].map((letter) => normal(letter, -10)),
  ];
  const encoded = pieces.flatMap(({ text, score, type }) => {
    const piece = [
      ...field(1, new TextEncoder().encode(text)),
      ...[8 * 2 + 5, ...new Uint8Array(Float32Array.of(score).buffer)],
      ...[8 * 3, type],
    ];
    return field(1, Uint8Array.from(piece));
  });
  const trainer = field(2, Uint8Array.of(8 * 3, 1));
  const normaliser = field(3, Uint8Array.from(field(1, new TextEncoder().encode("identity"))));
  return { bytes: Uint8Array.from([...encoded, ...trainer, ...normaliser]), count: pieces.length };
}

/** Writes `tokenizer/` and `text_encoder/` of a model folder. */
export async function makeTextEncoder(model: string): Promise<void> {
  const { bytes, count } = sentencePieceModel();
  const shape = {
    d_model: TEXT_WIDTH,
    d_ff: 64,
    d_kv: 16,
    num_heads: 4,
    num_layers: 1,
    vocab_size: Math.ceil((count + SENTINELS) / 8) * 8,
    layer_norm_epsilon: 1e-6,
  };
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  for (const part of ["tokenizer", "text_encoder"]) await Deno.mkdir(join(model, part), { recursive: true });
  await writeFileAtomic(join(model, "tokenizer/spiece.model"), bytes);
  await writeFileAtomic(
    join(model, "tokenizer/tokenizer_config.json"),
    json({
      eos_token: "</s>",
      extra_ids: SENTINELS,
      model_max_length: TEXT_LENGTH,
      pad_token: "<pad>",
      tokenizer_class: "T5Tokenizer",
      unk_token: "<unk>",
    }),
  );
  const config = {
    architectures: ["T5EncoderModel"],
    ...shape,
    eos_token_id: 1,
    feed_forward_proj: "gated-gelu",
    is_encoder_decoder: false,
    model_type: "t5",
    pad_token_id: 0,
    relative_attention_max_distance: 128,
    relative_attention_num_buckets: 32,
  };
  await writeFileAtomic(join(model, "text_encoder/config.json"), json(config));
  const shapes = new Map([["shared.weight", [shape.vocab_size, TEXT_WIDTH]], ...t5ParameterShapes(shape)]);
  const tensors = [...shapes].map(([name, lengths], sample) => {
    const values = new Float32Array(lengths.reduce((product, length) => product * length, 1));
    // What a block adds comes out of `o` and `wo`: at zero, words stay what they are.
    if (name.endsWith("norm.weight")) values.fill(1);
    else if (!/\b(o|wo)\.weight$/.test(name)) {
      new RandomStream({ seed: 3, purpose: "weights", step: 0, sample }).fillNormals(values);
    }
    return { name, dtype: "F16", shape: lengths, data: encodeF32(values, "f16") } as const;
  });
  await writeSafetensors(join(model, "text_encoder/model.safetensors"), tensors, { metadata: { format: "pt" } });
}
