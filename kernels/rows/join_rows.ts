/** Joins text and video rows into the joint sequence, text first, and takes them out again. */
import { type BufferSpec, type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel } from "../core/wgsl.ts";

/** [batch, textRows, width] and [batch, videoRows, width] against [batch, textRows + videoRows, width]. */
export interface JointShape {
  readonly batch: number;
  readonly textRows: number;
  readonly videoRows: number;
  readonly width: number;
}

function joint(
  name: string,
  spec: Readonly<Record<string, string>>,
  buffers: readonly BufferSpec[],
  statements: { readonly text: string; readonly video: string },
  shape: JointShape,
): Launch {
  const { batch, textRows, videoRows, width } = shape;
  const width4 = fours("width", width);
  const count = batch * (textRows + videoRows) * width4;
  return {
    kernel: buildKernel({
      name,
      spec,
      params: ["count4", "text4", "video4"],
      buffers,
      workgroupSize: THREADS,
      body: `
  if (gid < params.count4) {
    let b = gid / (params.text4 + params.video4);
    let k = gid % (params.text4 + params.video4);
    if (k < params.text4) { ${statements.text} }
    else { let source = b * params.video4 + k - params.text4; ${statements.video} }
  }`,
    }),
    params: [count, textRows * width4, videoRows * width4],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 0,
  };
}

const TEXT_AT = "b * params.text4 + k";

/** Buffers: text, video, y; with `text: "zero"` the text rows of y become zero and the buffers are video, y. */
export function joinRows(
  spec: { readonly text: DType | "zero"; readonly video: DType; readonly y: DType },
  shape: JointShape,
): Launch {
  const buffers: BufferSpec[] = [{ name: "video", dtype: spec.video }, { name: "y", dtype: spec.y }];
  if (spec.text !== "zero") buffers.unshift({ name: "text", dtype: spec.text });
  return joint("join_rows", { ...spec }, buffers, {
    text: `store_y(gid, ${spec.text === "zero" ? "vec4f(0)" : `load_text(${TEXT_AT})`});`,
    video: "store_y(gid, load_video(source));",
  }, shape);
}

/** Buffers: x, text, video; with `text: "drop"` only the video rows are taken and the buffers are x, video. */
export function splitRows(
  spec: { readonly x: DType; readonly text: DType | "drop"; readonly video: DType },
  shape: JointShape,
): Launch {
  const buffers: BufferSpec[] = [{ name: "x", dtype: spec.x }];
  if (spec.text !== "drop") buffers.push({ name: "text", dtype: spec.text });
  buffers.push({ name: "video", dtype: spec.video });
  return joint("split_rows", { ...spec }, buffers, {
    text: spec.text === "drop" ? "" : `store_text(${TEXT_AT}, load_x(gid));`,
    video: "store_video(source, load_x(gid));",
  }, shape);
}
