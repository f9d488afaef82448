/**
 * Attention with one thread per query (or per key): for devices without subgroups, other head sizes, and relative
 * biases.
 */
import { foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import { type AttentionShape, type AttentionSpec, HEAD_STATISTICS, type Pass, passBuffers } from "./shape.ts";

/**
 * Finds the thread's head and row. In scope afterwards: `head` (of all batches), `row`, `origin`, `mine`, `statistics`.
 */
function place(headDim: number): string {
  return `if (gid >= params.units) { return; }
let head = gid / params.sequence;
let row = gid % params.sequence;
let origin = head / params.heads * params.sequence * params.stride4 + head % params.heads * ${headDim / 4}u;
let mine = origin + row * params.stride4;
let statistics = ${HEAD_STATISTICS};`;
}

/** Loads the thread's row of `buffer` into `{buffer}_{c}`. */
function ownRow(buffer: string, vectors: number): string {
  return unroll(vectors, (c) => `let ${buffer}_${c} = load_${buffer}(mine + ${c}u);`);
}

/** Dot product of the thread's row of `own` and the row of `other` that starts at `there`. */
function dotRow(own: string, other: string, vectors: number): string {
  return unroll(vectors, (c) => `dot(${own}_${c}, load_${other}(there + ${c}u))`, " + ");
}

/** Adds `weight` times the row of `values` that starts at `there`. */
function addRow(acc: string, weight: string, values: string, vectors: number): string {
  return unroll(vectors, (c) => `${acc}_${c} = ${acc}_${c} + ${weight} * load_${values}(there + ${c}u);`);
}

function zeroRow(acc: string, vectors: number): string {
  return unroll(vectors, (c) => `var ${acc}_${c} = vec4f(0);`);
}

function storeRow(buffer: string, value: (c: number) => string, vectors: number): string {
  return unroll(vectors, (c) => `store_${buffer}(mine + ${c}u, ${value(c)});`);
}

const WALK = `for (var j = 0u; j < params.sequence; j++) {
let there = origin + j * params.stride4;`;

/** Thread per query, online softmax per key. */
export function plainForward(headDim: number, bias: boolean): string {
  const vectors = headDim / 4;
  const table =
    `let at = head % params.heads * ((2u * params.sequence + 2u) / 4u * 4u) + (j + params.sequence - 1u - row);
let s = params.scale * product + element_bias(at);`;
  return `${place(headDim)}
${ownRow("query", vectors)}
${zeroRow("o", vectors)}
var m = -1e30;
var l = 0.0;
${WALK}
let product = ${dotRow("query", "key", vectors)};
${bias ? table : "let s = params.scale * product;"}
let top = max(m, s);
let shrink = exp(m - top);
let p = exp(s - top);
m = top;
l = l * shrink + p;
${unroll(vectors, (c) => `o_${c} = o_${c} * shrink;`)}
${addRow("o", "p", "value", vectors)}
}
${storeRow("o", (c) => `o_${c} / l`, vectors)}
store_element_lse(statistics + row, m + log(l));`;
}

/** Thread per query: dq = scale * sum over keys of p (dp - delta) k. */
export function plainBackwardQuery(headDim: number): string {
  const vectors = headDim / 4;
  return `${place(headDim)}
${ownRow("query", vectors)}
${ownRow("dout", vectors)}
let row_lse = element_lse(statistics + row);
let row_delta = element_delta(statistics + row);
${zeroRow("sum", vectors)}
${WALK}
let p = exp(params.scale * (${dotRow("query", "key", vectors)}) - row_lse);
let ds = p * (${dotRow("dout", "value", vectors)} - row_delta);
${addRow("sum", "ds", "key", vectors)}
}
${storeRow("dq", (c) => `params.scale * sum_${c}`, vectors)}`;
}

/** Thread per key: dv = sum over queries of p dout, dk = scale * sum of p (dp - delta) q. */
export function plainBackwardKeyValue(headDim: number): string {
  const vectors = headDim / 4;
  return `${place(headDim)}
${ownRow("key", vectors)}
${ownRow("value", vectors)}
${zeroRow("dk", vectors)}
${zeroRow("dv", vectors)}
${WALK}
let p = exp(params.scale * (${dotRow("key", "query", vectors)}) - element_lse(statistics + j));
let ds = p * (${dotRow("value", "dout", vectors)} - element_delta(statistics + j));
${addRow("dv", "p", "dout", vectors)}
${addRow("dk", "ds", "query", vectors)}
}
${storeRow("dk", (c) => `params.scale * dk_${c}`, vectors)}
${storeRow("dv", (c) => `dv_${c}`, vectors)}`;
}

/** Thread per row and head: delta = sum over columns of o dout. */
export function plainDelta(headDim: number): string {
  const vectors = headDim / 4;
  return `${place(headDim)}
let sum = ${unroll(vectors, (c) => `dot(load_o(mine + ${c}u), load_dout(mine + ${c}u))`, " + ")};
store_element_delta(statistics + row, sum);`;
}

/** The launch of a pass: one thread per row of each head. */
export function launchPlain(
  pass: Pass,
  text: (headDim: number, bias: boolean) => string,
  spec: AttentionSpec,
  { batch, heads, sequence, scale }: AttentionShape,
): Launch {
  const { dtype, headDim, bias = false } = spec;
  const units = batch * heads * sequence;
  return {
    kernel: buildKernel({
      name: `${pass.name}_plain`,
      spec: { dtype, headDim, bias },
      params: ["sequence", "heads", "stride4", "units", "scale:f32"],
      buffers: passBuffers(pass, spec),
      workgroupSize: THREADS,
      body: () => text(headDim, bias),
    }),
    params: [sequence, heads, heads * headDim / 4, units, scale],
    grid: foldGrid(Math.ceil(units / THREADS)),
    flops: 2 * pass.products * units * sequence * headDim,
  };
}
