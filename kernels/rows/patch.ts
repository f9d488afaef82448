/**
 * Permutations between latents [B, f, C, h, w] and patch rows, and between text and video rows and the joint sequence.
 */
import { type BufferSpec, type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel } from "../core/wgsl.ts";

/** Latents [batch, frames, channels, height, width] cut into patches of 2 x 2 pixels and `framesPerPatch` frames. */
export interface PatchShape {
  readonly batch: number;
  readonly frames: number;
  /** Channels of the main buffer. */
  readonly channels: number;
  /** Channels of the second input (the image condition), 0 when there is none. */
  readonly conditionChannels: number;
  readonly height: number;
  readonly width: number;
  /** 1 for CogVideoX 1.0, 2 for 1.5. */
  readonly framesPerPatch: number;
}

const PARAMS = ["count4", "frames", "channels", "condition", "height", "pairs", "span"];

/** Checks that patches tile the latents; without this a wrong shape would silently read other pixels. */
function paramValues(shape: PatchShape): { values: number[]; count: number } {
  const { batch, frames, channels, conditionChannels, height, width, framesPerPatch } = shape;
  if (height % 2 !== 0 || width % 2 !== 0 || frames % framesPerPatch !== 0) {
    throw new RangeError(
      `Cannot cut ${frames} frames of ${height} x ${width} into patches of ${framesPerPatch} x 2 x 2: they must divide evenly`,
    );
  }
  fours("one frame of latents", channels * height * width);
  const count = fours("latents", batch * frames * (channels + conditionChannels) * height * width);
  return { values: [count, frames, channels, conditionChannels, height, width / 2, framesPerPatch], count };
}

/** A row of two pixels never straddles a vector because widths are even. */
const PAIR = (name: string) =>
  `fn pair_${name}(i: u32) -> vec2f { let v = load_${name}(i / 2u); return select(v.xy, v.zw, i % 2u == 1u); }`;

/**
 * Rows [batch * tokens, (channels + conditionChannels) * span * 4] with feature index ((c * span + r) * 2 + a) * 2 + b,
 * span = framesPerPatch (for span 1 that is (c * 2 + a) * 2 + b). Token (t * height/2 + i) * width/2 + j holds pixel
 * (frame t * span + r, row 2i + a, column 2j + b). Buffers: x (f32 latents), rows and, with `condition`, condition
 * (f32).
 */
export function patchify(spec: { readonly y: DType; readonly condition: boolean }, shape: PatchShape): Launch {
  if (spec.condition !== shape.conditionChannels > 0) {
    throw new RangeError(
      `Cannot cut patches: condition is ${spec.condition} but it has ${shape.conditionChannels} channels`,
    );
  }
  const { values, count } = paramValues(shape);
  const buffers: BufferSpec[] = [{ name: "x", dtype: "f32" }, { name: "rows", dtype: spec.y }];
  if (spec.condition) buffers.push({ name: "condition", dtype: "f32" });
  const main = "let at = ((frame * params.channels + c) * params.height + 2u * i) * params.pairs + j;\n    ";
  const read = (name: string) => `vec4f(pair_${name}(at), pair_${name}(at + params.pairs))`;
  return {
    kernel: buildKernel({
      name: "patchify",
      spec: { y: spec.y, condition: spec.condition },
      params: PARAMS,
      buffers,
      workgroupSize: THREADS,
      declarations: PAIR("x") + (spec.condition ? `\n${PAIR("condition")}` : ""),
      body: `
  if (gid < params.count4) {
    let features = (params.channels + params.condition) * params.span;
    let feature = gid % features;
    let token = gid / features;
    let j = token % params.pairs;
    let i = (token / params.pairs) % (params.height / 2u);
    let patch_frame = token / (params.pairs * (params.height / 2u));
    let frame = patch_frame * params.span + feature % params.span;
    let c = feature / params.span;
    ${
        spec.condition
          ? `if (c < params.channels) {
    ${main}store_rows(gid, ${read("x")});
    } else {
    let at = ((frame * params.condition + c - params.channels) * params.height + 2u * i) * params.pairs + j;
    store_rows(gid, ${read("condition")});
    }`
          : `${main}store_rows(gid, ${read("x")});`
      }
  }`,
    }),
    params: values,
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 0,
  };
}

/**
 * Inverse of {@linkcode patchify} without condition: buffers rows, x (f32 [batch, frames, channels, height, width]).
 */
export function unpatchify(spec: { readonly rows: DType }, shape: PatchShape): Launch {
  const { values, count } = paramValues({ ...shape, conditionChannels: 0 });
  const half = (name: string, index: string) =>
    `let ${name}_j = (${index}) % params.pairs;
    let ${name}_y = ((${index}) / params.pairs) % params.height;
    let ${name}_c = ((${index}) / (params.pairs * params.height)) % params.channels;
    let ${name}_f = (${index}) / (params.pairs * params.height * params.channels);
    let ${name}_token = ((${name}_f / params.span) * (params.height / 2u) + ${name}_y / 2u) * params.pairs + ${name}_j;
    let ${name}_v = load_rows((${name}_token * params.channels + ${name}_c) * params.span + ${name}_f % params.span);
    let ${name} = select(${name}_v.xy, ${name}_v.zw, ${name}_y % 2u == 1u);`;
  return {
    kernel: buildKernel({
      name: "unpatchify",
      spec: { rows: spec.rows },
      params: PARAMS,
      buffers: [{ name: "rows", dtype: spec.rows }, { name: "x", dtype: "f32" }],
      workgroupSize: THREADS,
      body: `
  if (gid < params.count4) {
    ${half("left", "2u * gid")}
    ${half("right", "2u * gid + 1u")}
    store_x(gid, vec4f(left, right));
  }`,
    }),
    params: values,
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 0,
  };
}
