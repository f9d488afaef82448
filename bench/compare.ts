/**
 * One f32 matrix product, result read back, through our kernel and through what a user could pick instead; samples interleaved.
 *
 *     deno run -A --no-lock bench/compare.ts [size] [rounds] [layout] [library ...]
 *
 * The layout is NN, NT (right operand transposed) or TN (left operand transposed). A library is a shared object with cblas_sgemm (`libopenblas.so.0`) or an npm specifier: `npm:@tensorflow/tfjs-core@4.22.0`
 * followed by `npm:@tensorflow/tfjs-backend-webgpu@4.22.0`, or `npm:@jax-js/jax@0.1.25`. None is a dependency of this repository:
 * Deno fetches them when named; set DENO_DIR to a temporary folder to keep them out of its cache.
 * OpenBLAS detects the processor when it loads; check the name printed and force one with OPENBLAS_CORETYPE if it is old.
 */
import { gemm } from "../kernels/matrix/gemm.ts";
import type { Layout } from "../kernels/matrix/gemm_shape.ts";
import { Bench, cpuMilliseconds, median, quantile } from "./harness.ts";
import { print } from "./suite.ts";

/** Computes the product and returns one element of it, the same for everyone. */
type Run = () => Promise<number>;

interface Candidate {
  readonly name: string;
  readonly run: Run;
  readonly wall: number[];
  readonly cpu: number[];
}

interface Problem {
  readonly layout: Layout;
  readonly size: number;
  readonly a: Float32Array<ArrayBuffer>;
  readonly b: Float32Array<ArrayBuffer>;
  /** The element every candidate returns. */
  readonly probe: number;
}

function openBlas(library: string, { layout, size, a, b, probe }: Problem, threads: number): Run {
  const { symbols } = Deno.dlopen(library, {
    cblas_sgemm: {
      parameters: [
        "i32",
        "i32",
        "i32",
        "i32",
        "i32",
        "i32",
        "f32",
        "buffer",
        "i32",
        "buffer",
        "i32",
        "f32",
        "buffer",
        "i32",
      ],
      result: "void",
    },
    openblas_set_num_threads: { parameters: ["i32"], result: "void" },
    openblas_get_config: { parameters: [], result: "pointer" },
  });
  if (threads === 1) print(new Deno.UnsafePointerView(symbols.openblas_get_config()!).getCString());
  const c = new Float32Array(size * size);
  const rowMajor = 101;
  const [left, right] = [...layout].map((side) => side === "N" ? 111 : 112) as [number, number];
  return () => {
    symbols.openblas_set_num_threads(threads);
    symbols.cblas_sgemm(rowMajor, left, right, size, size, size, 1, a, size, b, size, 0, c, size);
    return Promise.resolve(c[probe]!);
  };
}

interface Tensorflow {
  setBackend(name: string): Promise<boolean>;
  tensor2d(values: Float32Array, shape: [number, number]): unknown;
  matMul(
    a: unknown,
    b: unknown,
    transposeA: boolean,
    transposeB: boolean,
  ): { data(): Promise<Float32Array>; dispose(): void };
}

async function tensorflow(core: string, backend: string, { layout, size, a, b, probe }: Problem): Promise<Run> {
  const tf: Tensorflow = await import(core);
  await import(backend);
  await tf.setBackend("webgpu");
  const [left, right] = [tf.tensor2d(a, [size, size]), tf.tensor2d(b, [size, size])];
  return async () => {
    const c = tf.matMul(left, right, layout === "TN", layout === "NT");
    const value = (await c.data())[probe]!;
    c.dispose();
    return value;
  };
}

interface JaxArray {
  readonly ref: JaxArray;
  reshape(shape: [number, number]): JaxArray;
  transpose(): JaxArray;
  data(): Promise<Float32Array>;
}

interface Jax {
  init(): Promise<unknown>;
  defaultDevice(name: string): void;
  readonly numpy: { array(values: Float32Array): JaxArray; matmul(a: JaxArray, b: JaxArray): JaxArray };
}

async function jaxJs(specifier: string, { layout, size, a, b, probe }: Problem): Promise<Run> {
  const jax: Jax = await import(specifier);
  await jax.init();
  jax.defaultDevice("webgpu");
  const [left, right] = [a, b].map((x) => jax.numpy.array(x).reshape([size, size])) as [JaxArray, JaxArray];
  return async () => {
    const x = layout === "TN" ? left.ref.transpose() : left.ref;
    const y = layout === "NT" ? right.ref.transpose() : right.ref;
    return (await jax.numpy.matmul(x, y).data())[probe]!;
  };
}

function ours(bench: Bench, { layout, size, a, b, probe }: Problem): Run {
  const spec = { layout, a: "f32", b: "f32", c: "f32" } as const;
  const work = gemm(bench.device.target, spec, { m: size, n: size, k: size });
  const job = bench.prepare(work, { a: new Uint8Array(a.buffer), b: new Uint8Array(b.buffer), c: size * size });
  const { gpu } = bench.device;
  const c = job.buffers.get("c")!;
  return async () => {
    const staging = gpu.createBuffer({ size: c.size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = gpu.createCommandEncoder();
    bench.encode(encoder, job);
    encoder.copyBufferToBuffer(c, 0, staging, 0, c.size);
    gpu.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const value = new Float32Array(staging.getMappedRange())[probe]!;
    staging.destroy();
    return value;
  };
}

async function candidates(libraries: readonly string[], bench: Bench, problem: Problem): Promise<Candidate[]> {
  const list: Candidate[] = [];
  const add = (name: string, run: Run) => list.push({ name, run, wall: [], cpu: [] });
  add("this repository", ours(bench, problem));
  let core: string | undefined;
  for (const library of libraries) {
    if (/tfjs-core/.test(library)) core = library;
    else if (/tfjs-backend-webgpu/.test(library) && core !== undefined) {
      add(library, await tensorflow(core, library, problem));
    } else if (/jax/.test(library)) add(library, await jaxJs(library, problem));
    else for (const threads of [1, 2]) add(`${library}, ${threads} thread(s)`, openBlas(library, problem, threads));
  }
  return list;
}

function report(list: readonly Candidate[], flops: number): void {
  print("| library | GF/s per core-second: median (p10-max) | GF/s by the clock | ours against it, per core-second |");
  print("|---|---|---|---|");
  const mine = list[0]!;
  for (const { name, cpu, wall } of list) {
    const rates = cpu.map((ms) => flops / 1e6 / ms);
    const ratio = median(cpu.map((ms, round) => ms / mine.cpu[round]!));
    const spread = `${quantile(rates, 0.1).toFixed(2)}-${Math.max(...rates).toFixed(2)}`;
    const clock = (flops / 1e6 / median(wall)).toFixed(2);
    print(`| ${name} | ${median(rates).toFixed(2)} (${spread}) | ${clock} | ${ratio.toFixed(3)} |`);
  }
}

async function compare(size: number, rounds: number, layout: Layout, libraries: readonly string[]): Promise<void> {
  using bench = await Bench.open();
  const [a, b] = [0, 1].map(() => Float32Array.from({ length: size * size }, () => Math.random() - 0.5));
  const problem = { layout, size, a: a!, b: b!, probe: 5 * size + 7 };
  const list = await candidates(libraries, bench, problem);
  const expected = await list[0]!.run();
  for (const { name, run } of list) {
    const found = await run();
    if (Math.abs(found - expected) > 1e-3) throw new Error(`${name} computes ${found}, this repository ${expected}`);
  }
  for (let round = 0; round < rounds; round++) {
    for (const { run, wall, cpu } of list) {
      // Worker threads of the library before keep spinning for a while and would count against this one.
      await new Promise((resume) => setTimeout(resume, 100));
      const [clock, used] = [performance.now(), cpuMilliseconds()];
      await run();
      wall.push(performance.now() - clock);
      cpu.push(cpuMilliseconds() - used);
    }
  }
  print(`${layout} ${size}^3, ${bench.device.adapter.description}`);
  report(list, 2 * size ** 3);
}

const [size = "1024", rounds = "7", layout = "NN", ...libraries] = Deno.args;
if (layout !== "NN" && layout !== "NT" && layout !== "TN") {
  throw new TypeError(`layout is ${layout}, expected NN, NT or TN`);
}
await compare(Number(size), Number(rounds), layout, libraries);
Deno.exit(0);
