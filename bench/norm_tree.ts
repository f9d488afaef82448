/**
 * `deno run -A bench/norm_tree.ts [rows] [width] [rounds]`: row operations against the textbook form, one workgroup per row and
 * a tree of sums in workgroup memory; samples in pairs, CPU time of the process, copies to textures included.
 */
import type { BufferSpec, Launch } from "../kernels/core/kernel.ts";
import { foldGrid } from "../kernels/core/kernel.ts";
import { layerNorm, layerNormBackward, rmsNorm } from "../kernels/norm/layer.ts";
import { buildKernel, unroll } from "../kernels/core/wgsl.ts";
import { Bench, type Job, median, quantile, randomBytes } from "./harness.ts";
import { print } from "./suite.ts";

/** Threads of a tree: one per vector of four channels, as many as a power of two. */
const threadsOf = (width: number): number => Math.min(256, 2 ** Math.ceil(Math.log2(width / 4)));

/** A row operation as a tree: two sums over the row, then every element from the sums `t`. */
interface TreeText {
  readonly name: string;
  readonly buffers: readonly string[];
  /** Statements before the first pass; `row` is the row. */
  readonly start?: string;
  /** vec2f that element group `at` (column `c`) adds to the sums `t`, which are divided by the width. */
  readonly term: string;
  /** Term of a second tree, from the sums `m` of the first. */
  readonly secondTerm?: string;
  readonly result: string;
}

const TREES: Readonly<Record<string, TreeText>> = {
  "layer norm": {
    name: "layer_norm",
    buffers: ["x", "gamma", "beta", "y", "stats"],
    term: "vec2f(dot(load_x(at), vec4f(1)), dot(load_x(at), load_x(at)))",
    result: `let mean = t.x;
let rs = inverseSqrt(t.y - mean * mean + 1e-5);
if (li == 0u) { store_stats(wg, vec4f(mean, rs, 0, 0)); }
FOR { store_y(at, (load_x(at) - mean) * rs * load_gamma(c) + load_beta(c)); }`,
  },
  "layer norm, variance from distances as ours": {
    name: "layer_norm_distances",
    buffers: ["x", "gamma", "beta", "y", "stats"],
    term: "vec2f(dot(load_x(at), vec4f(1)), 0.0)",
    secondTerm: "vec2f(dot(load_x(at) - m.x, load_x(at) - m.x), 0.0)",
    result: `let rs = inverseSqrt(t.x + 1e-5);
if (li == 0u) { store_stats(wg, vec4f(m.x, rs, 0, 0)); }
FOR { store_y(at, (load_x(at) - m.x) * rs * load_gamma(c) + load_beta(c)); }`,
  },
  "layer norm backward": {
    name: "layer_norm_backward",
    buffers: ["x", "stats", "gamma", "g", "dx"],
    start: "let stats = load_stats(row);",
    term: "vec2f(dot(load_g(at) * load_gamma(c), vec4f(1)), " +
      "dot(load_g(at) * load_gamma(c), (load_x(at) - stats.x) * stats.y))",
    result:
      `FOR { store_dx(at, stats.y * (load_g(at) * load_gamma(c) - t.x - (load_x(at) - stats.x) * stats.y * t.y)); }`,
  },
  "RMS norm": {
    name: "rms_norm",
    buffers: ["x", "gamma", "y"],
    term: "vec2f(dot(load_x(at), load_x(at)), 0.0)",
    result: `let rs = inverseSqrt(t.x + 1e-5);
FOR { store_y(at, load_x(at) * rs * load_gamma(c)); }`,
  },
};

function treeLaunch(
  { name, buffers, start = "", term, secondTerm, result }: TreeText,
  rows: number,
  width: number,
): Launch {
  const threads = threadsOf(width);
  const loop = (body: string) =>
    `for (var c = li; c < params.width4; c += ${threads}u) { let at = row * params.width4 + c; ${body} }`;
  const halve = (level: number) => {
    const half = threads >> (level + 1);
    return `if (li < ${half}u) { sums[li] = sums[li] + sums[li + ${half}u]; }\nworkgroupBarrier();`;
  };
  const sums = (name: string, term: string) =>
    `${loop(`sum = sum + ${term};`)}
sums[li] = sum;
workgroupBarrier();
${unroll(Math.log2(threads), halve)}
let ${name} = sums[0] * params.inverse_width;`;
  const kernel = buildKernel({
    name: `tree_${name}`,
    spec: { threads },
    params: ["width4", "inverse_width:f32"],
    buffers: buffers.map((buffer): BufferSpec => ({ name: buffer, dtype: "f32" })),
    workgroupSize: threads,
    declarations: `var<workgroup> sums: array<vec2f, ${threads}>;`,
    body: `let row = wg;
${start}
var sum = vec2f(0);
${
      secondTerm === undefined ? sums("t", term) : `${sums("m", term)}
workgroupBarrier();
sum = vec2f(0);
${sums("t", secondTerm)}`
    }
${result.replace(/FOR \{(.*)\}/, (_, body: string) => loop(body))}`,
  });
  return { kernel, params: [width / 4, 1 / width], grid: foldGrid(rows), flops: 0 };
}

/** What both forms write, to be sure that they compute the same. */
async function results(bench: Bench, job: Job, output: number): Promise<Float32Array> {
  const { gpu } = bench.device;
  const source = [...job.buffers.values()][output]!;
  const staging = gpu.createBuffer({ size: source.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  const encoder = gpu.createCommandEncoder();
  encoder.copyBufferToBuffer(source, 0, staging, 0, source.size);
  gpu.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const values = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return values;
}

async function compare(rows: number, width: number, rounds: number): Promise<void> {
  using bench = await Bench.open();
  const { target } = bench.device;
  const shape = {
    ...{ rows, sequence: rows, textRows: 0, width, eps: 1e-5 },
    ...{ modulationStride: 0, shiftText: 0, scaleText: 0, shiftVideo: 0, scaleVideo: 0 },
  };
  const f32 = { x: "f32", y: "f32", param: "f32" } as const;
  const size = rows * width;
  const x = () => randomBytes(size, "f32");
  const vector = () => randomBytes(width, "f32");
  const stats = new Uint8Array(Float32Array.from({ length: 4 * rows }, (_, i) => [0.01, 3, 0, 0][i % 4]!).buffer);
  const g = { ...f32, g: "f32", dx: "f32" } as const;
  const cases = [
    ...["layer norm", "layer norm, variance from distances as ours"].map((name) => ({
      name,
      ours: layerNorm(target, { ...f32, modulated: false }, shape),
      moved: 2,
    })),
    {
      name: "layer norm backward",
      ours: layerNormBackward(target, { ...g, modulated: false, accumulate: false }, shape),
      moved: 3,
    },
    { name: "RMS norm", ours: rmsNorm(target, f32, { rows, width, eps: 1e-5 }), moved: 2 },
  ];
  const forward = [x(), vector(), vector(), size, 4 * rows];
  const contents = [forward, forward, [x(), stats, vector(), x(), size], [
    x(),
    vector(),
    size,
  ]];
  print(`${bench.device.adapter.description}, f32 ${rows} x ${width}, ${rounds} pairs`);
  print("| row operation | tree, GB/s per core-second | ours from buffers, over tree | ours as run, over tree |");
  print("|---|---|---|---|");
  for (const [i, { name, ours, moved }] of cases.entries()) {
    const tree = bench.prepare(treeLaunch(TREES[name]!, rows, width), contents[i]!, true);
    const jobs = [tree, bench.prepare(ours, contents[i]!, true), bench.prepare(ours, contents[i]!)];
    for (const job of jobs) await bench.sample(job);
    const output = ours.launches[0]!.launch.kernel.buffers.findIndex((buffer) =>
      buffer.name === "y" || buffer.name === "dx"
    );
    const expected = await results(bench, tree, output);
    for (const job of jobs) {
      const found = await results(bench, job, output);
      const worst = found.reduce((most, value, at) => Math.max(most, Math.abs(value - expected[at]!)), 0);
      if (!(worst < 1e-4)) throw new Error(`${name}: the forms differ by ${worst}`);
    }
    const times: number[][] = [[], [], []];
    for (let round = 0; round < rounds; round++) {
      for (const [form, job] of jobs.entries()) times[form]!.push((await bench.sample(job, 2)).cpu);
    }
    const rate = (list: readonly number[]) => (4 * moved * size / 1e6 / median(list)).toFixed(2);
    const against = (list: readonly number[]) => {
      const ratios = list.map((ms, round) => times[0]![round]! / ms);
      return `${rate(list)}: ${median(ratios).toFixed(1)} (${quantile(ratios, 0.1).toFixed(1)}-${
        quantile(ratios, 0.9).toFixed(1)
      })`;
    };
    print(`| ${name} | ${rate(times[0]!)} | ${against(times[1]!)} | ${against(times[2]!)} |`);
    for (const job of jobs) bench.free(job);
  }
}

const [rows = "1024", width = "1920", rounds = "9"] = Deno.args;
await compare(Number(rows), Number(width), Number(rounds));
