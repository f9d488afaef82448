/**
 * LoRAs as the programs name and store them: whatever the layout, the weight that comes out is W + s B A (or its rows
 * with the norms of a DoRA), computed here in float64 from the stored numbers.
 */
import assert from "node:assert/strict";
import { cpSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import type { Dtype } from "../../../lib/io/safetensors/dtypes.ts";
import { encodeF32 } from "../../../lib/io/safetensors/half.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { declareLora, initialLora } from "../../../lib/models/lora/adapters.ts";
import { mergedSource } from "../../../lib/models/lora/merge_into_weights.ts";
import { readLora } from "../../../lib/models/lora/read.ts";
import { mergeLoras } from "../../../lib/models/lora/stack.ts";
import { startFromFile } from "../../../lib/models/lora/start.ts";
import { describeStrays } from "../../../lib/models/lora/notes.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { numbers } from "../../kernels/run.ts";

/** Layers with a rank of their own each; inputs and outputs differ, so that nothing can be transposed unseen. */
const LAYERS = [
  { layer: "transformer_blocks.0.attn1.to_q", rank: 4, out: 12, input: 20 },
  { layer: "transformer_blocks.11.attn1.to_out.0", rank: 2, out: 16, input: 8 },
  { layer: "transformer_blocks.1.ff.net.0.proj", rank: 3, out: 28, input: 12 },
] as const;

type Layer = (typeof LAYERS)[number];

const underscored = (name: string) => name.replaceAll(".", "_");

/** Names of ComfyUI's own model. */
const COMFY: Readonly<Record<string, string>> = {
  "attn1.to_q": "q",
  "attn1.to_out.0": "attn_out",
  "ff.net.0.proj": "ff_proj",
};
const comfy = (layer: string) =>
  layer.replace(/^transformer_blocks\.(\d+)\.(.*)$/, (_, block, leaf) => `blocks.${block}.${COMFY[leaf]}`);

/** How SAT names the adapters of a layer. */
function sat(layer: string, matrix: "A" | "B"): string {
  const [, block, leaf] = /^transformer_blocks\.(\d+)\.attn1\.(.*)$/.exec(layer)!;
  return `layers.${block}.attention.${leaf === "to_q" ? "query_key_value" : "dense"}.matrix_${matrix}.0`;
}

interface Format {
  readonly title: string;
  /** Names of A and B. */
  readonly names: (layer: string) => readonly [string, string];
  /** Name of a tensor with alpha. */
  readonly alphaName?: (layer: string) => string;
  /** Alpha of a layer, when something in the file or beside it says so. */
  readonly alpha?: (layer: Layer) => number;
  /** What every loader takes when nothing does. */
  readonly assumed?: number;
  /** Scale is alpha / sqrt(rank). */
  readonly stabilised?: boolean;
  /** Name and shape of the norms of a DoRA. */
  readonly norms?: (layer: Layer) => readonly [string, readonly number[]];
  readonly dtype?: Dtype;
  readonly metadata?: Readonly<Record<string, string>>;
  /** Text of adapter_config.json, beside a file of peft's name. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly layers?: readonly Layer[];
}

const dotted = (prefix: string, down = "lora_A.weight", up = "lora_B.weight") => (layer: string) =>
  [`${prefix}${layer}.${down}`, `${prefix}${layer}.${up}`] as const;
const kohya = (prefix: string) => (layer: string) =>
  [`${prefix}${underscored(layer)}.lora_down.weight`, `${prefix}${underscored(layer)}.lora_up.weight`] as const;
const attention = LAYERS.filter(({ layer }) => layer.includes("attn1"));
const byLayer = ({ rank }: Layer) => 1.5 * rank + 1;
const fixed = (alpha: number) => () => alpha;

/** peft's config for the layers, with what differs by layer in its patterns. */
const peftConfig = (changes: object = {}) => ({
  r: 4,
  lora_alpha: 7,
  rank_pattern: { "transformer_blocks.11.attn1.to_out.0": 2, "ff.net.0.proj": 3 },
  alpha_pattern: { "transformer_blocks.11.attn1.to_out.0": 4, "ff.net.0.proj": 5.5 },
  peft_type: "LORA",
  ...changes,
});

const formats: readonly Format[] = [
  {
    title: "diffusers, alpha in its metadata",
    names: dotted("transformer."),
    metadata: {
      lora_adapter_metadata: JSON.stringify(
        Object.fromEntries(Object.entries(peftConfig()).map(([key, value]) => [`transformer.${key}`, value])),
      ),
    },
    alpha: byLayer,
  },
  { title: "diffusers, no metadata", names: dotted("transformer.") },
  {
    title: "diffusers before peft",
    names: dotted("transformer.", "lora.down.weight", "lora.up.weight"),
  },
  {
    title: "finetrainers",
    names: dotted("transformer."),
    metadata: {
      lora_config: JSON.stringify({ r: 4, lora_alpha: 9, init_lora_weights: true, target_modules: ".*to_q" }),
    },
    alpha: fixed(9),
  },
  {
    title: "CogKit, the state of the model in memory",
    names: dotted("", "lora_A.default.weight", "lora_B.default.weight"),
  },
  {
    title: "an adapter with a name of its own",
    names: dotted("", "lora_A.my-style_2.weight", "lora_B.my-style_2.weight"),
  },
  { title: "peft with its config", names: dotted("base_model.model."), config: peftConfig(), alpha: byLayer },
  {
    title: "peft, rank-stabilised",
    names: dotted("base_model.model."),
    config: peftConfig({ use_rslora: true }),
    alpha: byLayer,
    stabilised: true,
  },
  { title: "peft without prefix", names: dotted(""), config: peftConfig(), alpha: byLayer },
  { title: "peft around the pipeline's transformer", names: dotted("base_model.model.transformer.") },
  {
    title: "peft, DoRA",
    names: dotted("base_model.model."),
    norms: ({ layer, out }) => [`base_model.model.${layer}.lora_magnitude_vector`, [out]],
    config: peftConfig({ use_dora: true }),
    alpha: byLayer,
  },
  {
    title: "peft, rank-stabilised DoRA in memory",
    names: dotted("", "lora_A.default.weight", "lora_B.default.weight"),
    norms: ({ layer, out }) => [`${layer}.lora_magnitude_vector.default.weight`, [out]],
    config: peftConfig({ use_dora: true, use_rslora: true }),
    alpha: byLayer,
    stabilised: true,
  },
  {
    title: "kohya and VideoX-Fun",
    names: kohya("lora_unet__"),
    alphaName: (layer) => `lora_unet__${underscored(layer)}.alpha`,
    alpha: byLayer,
  },
  {
    title: "musubi-tuner",
    names: kohya("lora_unet_"),
    alphaName: (layer) => `lora_unet_${underscored(layer)}.alpha`,
    alpha: byLayer,
  },
  {
    title: "kohya, DoRA of LyCORIS",
    names: kohya("lycoris_"),
    alphaName: (layer) => `lycoris_${underscored(layer)}.alpha`,
    alpha: byLayer,
    norms: ({ layer, out }) => [`lycoris_${underscored(layer)}.dora_scale`, [out, 1]],
  },
  {
    title: "kohya, alpha in the metadata alone",
    names: kohya("lora_transformer_"),
    metadata: { ss_network_dim: "4", ss_network_alpha: "2.0" },
    alpha: fixed(2),
  },
  {
    title: "ComfyUI's wrapper",
    names: dotted("diffusion_model."),
    alphaName: (layer) => `diffusion_model.${layer}.alpha`,
    alpha: byLayer,
  },
  {
    title: "ComfyUI's own names, kohya's halves, DoRA",
    names: (layer) => dotted("diffusion_model.", "lora_down.weight", "lora_up.weight")(comfy(layer)),
    alphaName: (layer) => `diffusion_model.${comfy(layer)}.alpha`,
    alpha: byLayer,
    norms: ({ layer, out }) => [`diffusion_model.${comfy(layer)}.dora_scale`, [out, 1]],
  },
  { title: "a whole program around it", names: dotted("module.model.diffusion_model.") },
  {
    title: "SAT",
    names: (layer) => ["A", "B"].map((m) => `model.diffusion_model.transformer.${sat(layer, m as "A" | "B")}`) as never,
    assumed: 1,
    layers: attention,
  },
  {
    title: "SAT without prefix",
    names: (layer) => [sat(layer, "A"), sat(layer, "B")],
    assumed: 1,
    layers: attention,
  },
  ...(["F64", "F16", "BF16", "F8_E4M3", "F8_E5M2"] as const).map((dtype): Format => ({
    title: `stored in ${dtype}`,
    names: kohya("lora_unet_"),
    alphaName: (layer) => `lora_unet_${underscored(layer)}.alpha`,
    alpha: ({ rank }) => rank / 2,
    norms: ({ layer, out }) => [`lora_unet_${underscored(layer)}.dora_scale`, [out, 1]],
    dtype,
  })),
];

interface Stored {
  readonly values: Float64Array;
  readonly data: Uint8Array | Float64Array;
}

/** Numbers that every storage type but 8 bits holds exactly (seven bits of fraction), and those of 8 bits by their patterns. */
function stored(count: number, seed: number, dtype: Dtype, positive = false): Stored {
  if (dtype === "F8_E4M3" || dtype === "F8_E5M2") {
    const [fraction, bias] = dtype === "F8_E4M3" ? [3, 7] : [2, 15];
    // Below 2 in magnitude; every other number negative, subnormals among them.
    const data = Uint8Array.from(numbers(count, seed), (x, i) => {
      const bits = Math.floor(Math.abs(x) * 2 * (bias << fraction));
      return positive ? bits | 1 : bits | (i % 2 << 7);
    });
    const values = Float64Array.from(data, (bits) => {
      const exponent = (bits & 127) >> fraction;
      const part = (bits & ((1 << fraction) - 1)) / 2 ** fraction;
      return (bits < 128 ? 1 : -1) * (exponent === 0 ? part * 2 ** (1 - bias) : (1 + part) * 2 ** (exponent - bias));
    });
    return { values, data };
  }
  const values = Float64Array.from(numbers(count, seed), (x) => (positive ? 1 : 0) + Math.round(x * 100) / 128);
  if (dtype === "F64") return { values, data: values };
  return { values, data: encodeF32(Float32Array.from(values), dtype.toLowerCase() as "f32" | "f16" | "bf16") };
}

/** Rows of W + s B A, with norms of their own where there are some, float64. */
function expectedWeight(
  { rank, out, input }: Layer,
  weight: Float32Array,
  a: Float64Array,
  b: Float64Array,
  scale: number,
  norms: Float64Array | undefined,
): Float64Array {
  const result = new Float64Array(out * input);
  for (let row = 0; row < out; row++) {
    let square = 0;
    for (let column = 0; column < input; column++) {
      let sum = 0;
      for (let r = 0; r < rank; r++) sum += b[row * rank + r]! * a[r * input + column]!;
      const value = weight[row * input + column]! + scale * sum;
      result[row * input + column] = value;
      square += value * value;
    }
    if (norms === undefined) continue;
    for (let column = 0; column < input; column++) result[row * input + column]! *= norms[row]! / Math.sqrt(square);
  }
  return result;
}

const weightOf = ({ out, input }: Layer, seed: number) => numbers(out * input, 100 + seed);

interface Written {
  readonly path: string;
  /** Expected weights by layer. */
  readonly expected: ReadonlyMap<string, Float64Array>;
}

/** Writes a LoRA in a format. */
async function write(folder: string, format: Format): Promise<Written> {
  const { names, alphaName, alpha, assumed, stabilised, norms, dtype = "F32", metadata = {}, config } = format;
  const tensors: TensorToWrite[] = [];
  const expected = new Map<string, Float64Array>();
  (format.layers ?? LAYERS).forEach((entry, seed) => {
    const { layer, rank, out, input } = entry;
    const a = stored(rank * input, 10 * seed + 1, dtype);
    const b = stored(out * rank, 10 * seed + 2, dtype);
    const [down, up] = names(layer);
    tensors.push({ name: down, dtype, shape: [rank, input], data: a.data });
    tensors.push({ name: up, dtype, shape: [out, rank], data: b.data });
    const taken = alpha?.(entry) ?? assumed ?? rank;
    if (alphaName !== undefined) {
      const narrow = encodeF32(Float32Array.of(taken), "bf16");
      tensors.push({ name: alphaName(layer), dtype: "BF16", shape: [], data: narrow });
    }
    let magnitudes: Float64Array | undefined;
    if (norms !== undefined) {
      const [name, shape] = norms(entry);
      const { values, data } = stored(out, 10 * seed + 3, dtype, true);
      tensors.push({ name, dtype, shape, data });
      magnitudes = values;
    }
    const scale = taken / (stabilised === true ? Math.sqrt(rank) : rank);
    expected.set(layer, expectedWeight(entry, weightOf(entry, seed), a.values, b.values, scale, magnitudes));
  });
  const path = join(folder, config === undefined ? "lora.safetensors" : "peft/adapter_model.safetensors");
  mkdirSync(dirname(path), { recursive: true });
  if (config !== undefined) writeFileSync(join(dirname(path), "adapter_config.json"), JSON.stringify(config));
  await writeSafetensors(path, tensors, { metadata });
  return { path: config === undefined ? path : dirname(path), expected };
}

function requireClose(what: string, found: ArrayLike<number>, expected: Float64Array, limit: number): void {
  assert.equal(found.length, expected.length, what);
  expected.forEach((value, i) => {
    const error = Math.abs(found[i]! - value);
    assert.ok(error <= limit * Math.max(1, Math.abs(value)), `${what}[${i}]: ${found[i]} instead of ${value}`);
  });
}

for (const format of formats) {
  Deno.test(`a LoRA of ${format.title} changes weights as its numbers say`, () =>
    withFolder(async (folder) => {
      const { path, expected } = await write(folder, format);
      const base = join(folder, "base.safetensors");
      const layers = format.layers ?? LAYERS;
      await writeSafetensors(
        base,
        layers.map((entry, seed): TensorToWrite => {
          const { layer, out, input } = entry;
          return { name: `${layer}.weight`, dtype: "F32", shape: [out, input], data: weightOf(entry, seed) };
        }),
      );
      const lora = readLora(path);
      assert.deepEqual([...lora.modules.keys()].sort(), [...expected.keys()].sort());
      assert.deepEqual(lora.strays, []);
      assert.equal(lora.alphaStored, format.alpha !== undefined);
      assert.deepEqual(lora.dtypes, [format.dtype ?? "F32"]);
      using weights = openSafetensors(base);
      using merged = mergedSource(weights, [{ modules: lora.modules, strength: 1 }]);
      const adapters = mergeLoras([{ modules: lora.modules, strength: 1 }]);
      layers.forEach((entry, seed) => {
        const { layer, out, input } = entry;
        // One rounding to f32 of the exact weight.
        requireClose(layer, merged.readF32(`${layer}.weight`), expected.get(layer)!, 2 ** -24);
        if (format.norms !== undefined) return;
        // Beside the weights B is rounded once with the scale in it.
        const { down, up, rank } = adapters.get(layer)!;
        const weight = weightOf(entry, seed);
        const sums = Float64Array.from({ length: out * input }, (_, i) => {
          const [row, column] = [Math.floor(i / input), i % input];
          let sum = weight[i]!;
          for (let r = 0; r < rank; r++) sum += up[row * rank + r]! * down[r * input + column]!;
          return sum;
        });
        requireClose(`${layer} beside`, sums, expected.get(layer)!, entry.rank * 2 ** -23);
      });
    }));
}

Deno.test("a folder stands for the LoRA in it, whatever its name, unless there are several", () =>
  withFolder(async (folder) => {
    assert.throws(() => readLora(folder), /holds no \.safetensors file/);
    const { path } = await write(folder, formats[1]!);
    const named = join(folder, "my style.safetensors");
    renameSync(path, named);
    assert.equal(readLora(folder).path, named);
    cpSync(named, join(folder, "b.safetensors"));
    assert.throws(
      () => readLora(folder),
      /holds several LoRAs: b\.safetensors, my style\.safetensors\n.*give the LoRA file/,
    );
    cpSync(named, join(folder, "pytorch_lora_weights.safetensors"));
    assert.equal(readLora(folder).path, join(folder, "pytorch_lora_weights.safetensors"));
  }));

Deno.test("at half its strength a DoRA goes half of the way, and two LoRAs add what each would change alone", () =>
  withFolder(async (folder) => {
    const dora = await write(join(folder, "a"), formats.find(({ title }) => title === "peft, DoRA")!);
    const plain = await write(join(folder, "b"), formats.find(({ title }) => title === "musubi-tuner")!);
    const [entry] = LAYERS;
    const name = `${entry.layer}.weight`;
    const weight = weightOf(entry, 0);
    const base = join(folder, "base.safetensors");
    await writeSafetensors(base, [{ name, dtype: "F32", shape: [entry.out, entry.input], data: weight }]);
    using weights = openSafetensors(base);
    const loras = [[dora, 0.5], [plain, -2]] as const;
    using merged = mergedSource(
      weights,
      loras.map(([{ path }, strength]) => ({ modules: readLora(path).modules, strength })),
    );
    const expected = Float64Array.from(weight, (value, i) => {
      return loras.reduce(
        (sum, [{ expected }, strength]) => sum + strength * (expected.get(entry.layer)![i]! - value),
        value,
      );
    });
    requireClose("both", merged.readF32(name), expected, 2 ** -22);
    // Pieces that begin and end inside rows are the same bytes.
    const whole = merged.readBytes(name);
    for (const [from, to] of [[0, 4], [12, 340], [80, 160], [whole.length - 4, whole.length]] as const) {
      assert.deepEqual(merged.readBytes(name, from, to), whole.slice(from, to));
    }
  }));

Deno.test("adapters that start from a DoRA have its norms; plain ones refuse them", () =>
  withFolder(async (folder) => {
    const { path } = await write(folder, formats.find(({ title }) => title === "peft, DoRA")!);
    const file = readLora(path);
    const shapes = new Map(LAYERS.map(({ layer, out, input }) => [`${layer}.weight`, [out, input]] as const));
    const config = { rank: 4, alpha: 4, targets: ["to_q", "to_out.0", "proj"] };
    const uniform = (count: number) => new Float64Array(count).fill(0.5);
    const lora = declareLora(shapes, { ...config, decomposed: true });
    const values = startFromFile(lora, file, initialLora(lora, uniform));
    for (const [layer, { magnitude }] of file.modules) {
      assert.deepEqual(values.get(`${layer}.lora_magnitude_vector`), magnitude);
    }
    const plain = declareLora(shapes, config);
    assert.throws(() => startFromFile(plain, file, initialLora(plain, uniform)), /the file is a DoRA.*set use_dora/);
  }));

Deno.test("what of a file has no effect is told by kind and name", () =>
  withFolder(async (folder) => {
    const path = join(folder, "lora.safetensors");
    const pair = (name: string): TensorToWrite[] => [
      { name: `${name}.lora_A.weight`, dtype: "F32", shape: [1, 2], data: numbers(2) },
      { name: `${name}.lora_B.weight`, dtype: "F32", shape: [2, 1], data: numbers(2) },
    ];
    const single = (name: string): TensorToWrite => ({ name, dtype: "F32", shape: [2], data: numbers(2) });
    await writeSafetensors(path, [
      ...pair("transformer.transformer_blocks.0.attn1.to_q"),
      ...pair("text_encoder.encoder.block.0.layer.0.SelfAttention.q"),
      single("lora_te1_text_model_encoder.alpha"),
      ...pair("transformer.single_blocks.0.linear1"),
      single("diffusion_model.blocks.0.norm.diff_b"),
      single("vae.conv.weight"),
      single("step"),
    ]);
    const { modules, strays } = readLora(path);
    assert.equal(modules.size, 1);
    assert.deepEqual(
      describeStrays(strays).sort(),
      [
        '1 tensor of an autoencoder: "vae.conv.weight"',
        '1 tensor of another kind: "step"',
        '1 tensor whole weights: "diffusion_model.blocks.0.norm.diff_b"',
        '2 tensors of layers that no CogVideoX transformer has: "transformer.single_blocks.0.linear1.lora_A.weight", ' +
        '"transformer.single_blocks.0.linear1.lora_B.weight"',
        '3 tensors of a text encoder: "lora_te1_text_model_encoder.alpha", ' +
        '"text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight", ' +
        '"text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_B.weight"',
      ].sort(),
    );
  }));

const q = "transformer.transformer_blocks.0.attn1.to_q";
const halves = { [`${q}.lora_A.weight`]: [2, 8], [`${q}.lora_B.weight`]: [12, 2] };
const refused: readonly (readonly [string, Record<string, number[]>, Record<string, string>, RegExp])[] = [
  [
    "a DoRA over columns",
    { ...halves, [`${q}.dora_scale`]: [1, 8] },
    {},
    /dora_scale" \[1,8\] does not hold the norms of 12 rows: cogtune applies DoRA by rows/,
  ],
  [
    "a DoRA over as many columns as rows",
    { [`${q}.lora_A.weight`]: [2, 12], [`${q}.lora_B.weight`]: [12, 2], [`${q}.dora_scale`]: [1, 12] },
    {},
    /dora_scale" \[1,12\] does not hold the norms of 12 rows/,
  ],
  [
    "a DoRA without norms",
    halves,
    { lora_adapter_metadata: JSON.stringify({ "transformer.use_dora": true, "transformer.lora_alpha": 2 }) },
    /says that it is a DoRA, but holds no norms/,
  ],
  [
    "a LoHa",
    { "lora_unet_transformer_blocks_0_attn1_to_q.hada_w1_a": [2, 2] },
    {},
    /is a LoHa .*merge it where it was made/s,
  ],
  ["a LoRA with biases", { ...halves, [`${q}.lora_B.bias`]: [12] }, {}, /is a LoRA with biases/],
  [
    "a text encoder's LoRA",
    { "lora_te_x.lora_down.weight": [2, 8] },
    {},
    /holds no LoRA .* 1 tensor of a text encoder/,
  ],
  ["metadata of finetrainers without sense", halves, { lora_config: '{"lora_alpha": -1}' }, /lora_alpha is -1/],
];

for (const [title, shapes, metadata, message] of refused) {
  Deno.test(`refused: ${title}`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "lora.safetensors");
      const tensors = Object.entries(shapes).map(([name, shape]): TensorToWrite => {
        return { name, dtype: "F32", shape, data: numbers(shape.reduce((a, b) => a * b, 1)) };
      });
      await writeSafetensors(path, tensors, { metadata });
      assert.throws(() => readLora(path), (error) => error instanceof UserError && message.test(error.message));
    }));
}
