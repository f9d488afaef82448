/**
 * Attention backward. With p = exp(scale q k^T - lse), dp = dout v^T and delta = rowsum(o dout):
 * dv = p^T dout, ds = p (dp - delta), dq = scale ds k, dk = scale ds^T q. Scores are computed again, never stored.
 */
import type { BufferSpec, DType, Launch, Target } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";
import {
  accumulators,
  LANE_ROWS,
  launchOctets,
  type Octet,
  octetOf,
  ownRows,
  place,
  PLACE_PARAMS,
  scoresText,
  share,
  STEP_ROWS,
  storeRows,
  weightedSumText,
} from "./octet.ts";
import { type AttentionShape, type AttentionSpec, checkAttention, HEAD_STATISTICS } from "./shape.ts";
import { launchPlain, plainBackwardKeyValue, plainBackwardQuery, plainDelta } from "./plain.ts";

const INPUTS = ["query", "key", "value", "dout"] as const;

function backwardBuffers(dtype: DType, outputs: readonly string[]): BufferSpec[] {
  return [
    ...INPUTS.map((name) => ({ name, dtype })),
    { name: "lse", dtype: "f32" },
    { name: "delta", dtype: "f32" },
    ...outputs.map((name) => ({ name, dtype })),
  ];
}

/** A per-query number of the octet's head; `lse` in units of log2, because the scores are. */
const STATISTICS = `let statistics = ${HEAD_STATISTICS};`;

function statistic(name: "lse" | "delta", row: string): string {
  const at = `(statistics + min(${row}, last))`;
  return `element_${name}(${at})${name === "lse" ? ` * ${Math.LOG2E}` : ""}`;
}

function octetQuery(octet: Octet): string {
  const { rows } = octet;
  const step = (i: number) =>
    `{ let top = ${share(octet, `lse${i >> 3}`, i & 7)}; let mean = ${share(octet, `delta${i >> 3}`, i & 7)};
${
      unroll(LANE_ROWS, (t) =>
        `s${i}_${t} = select(0.0, exp2(s${i}_${t} * scale2 - top) * (d${i}_${t} - mean), j0 + ${8 * t}u + ln <= last);`)
    } }`;
  return `${place(octet)}
${STATISTICS}
${ownRows(octet)}
${
    unroll(rows / 8, (n) => {
      const row = `row0 + ${8 * n}u + ln`;
      return `let lse${n} = ${statistic("lse", row)}; let delta${n} = ${statistic("delta", row)};`;
    })
  }
${accumulators(octet, "sum")}
for (var j0 = 0u; j0 <= last; j0 += ${STEP_ROWS}u) {
${scoresText(octet, [{ acc: "s", own: "query", other: "key" }, { acc: "d", own: "dout", other: "value" }])}
${unroll(rows, step)}
${weightedSumText(octet, [{ acc: "sum", weight: "s", values: "key" }])}
}
${storeRows(octet, "dq", (i, g) => `params.scale * sum${i}_${g}`)}`;
}

function octetKeyValue(octet: Octet): string {
  const { rows } = octet;
  const step = (i: number) =>
    unroll(
      LANE_ROWS,
      (t) =>
        `s${i}_${t} = select(0.0, exp2(s${i}_${t} * scale2 - lse${t}), inside${t}); d${i}_${t} = s${i}_${t} * (d${i}_${t} - delta${t});`,
    );
  return `${place(octet)}
${STATISTICS}
${ownRows(octet)}
${accumulators(octet, "dk")}
${accumulators(octet, "dv")}
for (var j0 = 0u; j0 <= last; j0 += ${STEP_ROWS}u) {
${scoresText(octet, [{ acc: "s", own: "key", other: "query" }, { acc: "d", own: "value", other: "dout" }])}
${
    unroll(LANE_ROWS, (t) => {
      const query = `j0 + ${8 * t}u + ln`;
      return `let inside${t} = ${query} <= last; let lse${t} = ${statistic("lse", query)}; let delta${t} = ${
        statistic("delta", query)
      };`;
    })
  }
${unroll(rows, step)}
${weightedSumText(octet, [{ acc: "dv", weight: "s", values: "dout" }, { acc: "dk", weight: "d", values: "query" }])}
}
${storeRows(octet, "dk", (i, g) => `params.scale * dk${i}_${g}`)}
${storeRows(octet, "dv", (i, g) => `dv${i}_${g}`)}`;
}

/**
 * delta = rowsum(o * dout) per head. Buffers: o, dout, delta (f32, shaped like lse; its padding is not written).
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionDelta(spec: AttentionSpec, shape: AttentionShape): Launch {
  checkAttention(spec, shape);
  const { dtype, headDim } = spec;
  const buffers: BufferSpec[] = [{ name: "o", dtype }, { name: "dout", dtype }, { name: "delta", dtype: "f32" }];
  const launch = launchPlain("attention_delta", plainDelta(headDim), buffers, { dtype, headDim }, shape, 0);
  return { ...launch, flops: 2 * shape.batch * shape.heads * shape.sequence * headDim };
}

/**
 * Gradient of the queries. Buffers: q, k, v, dout, lse, delta, dq.
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionBackwardQuery(target: Target, spec: AttentionSpec, shape: AttentionShape): Launch {
  return backward(target, spec, shape, {
    name: "attention_query",
    outputs: ["dq"],
    products: 3,
    octetText: octetQuery,
    plainText: plainBackwardQuery,
  });
}

/**
 * Gradients of the keys and values. Buffers: q, k, v, dout, lse, delta, dk, dv.
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionBackwardKeyValue(target: Target, spec: AttentionSpec, shape: AttentionShape): Launch {
  return backward(target, spec, shape, {
    name: "attention_key_value",
    outputs: ["dk", "dv"],
    products: 4,
    octetText: octetKeyValue,
    plainText: plainBackwardKeyValue,
  });
}

interface Gradient {
  readonly name: string;
  readonly outputs: readonly string[];
  /** Products of whole matrices that it takes. */
  readonly products: number;
  readonly octetText: (octet: Octet) => string;
  readonly plainText: (headDim: number) => string;
}

function backward(target: Target, spec: AttentionSpec, shape: AttentionShape, gradient: Gradient): Launch {
  checkAttention(spec, shape);
  const { dtype, headDim } = spec;
  const { name, outputs, products, octetText, plainText } = gradient;
  const buffers = backwardBuffers(dtype, outputs);
  const octet = octetOf(target, headDim, shape.sequence);
  if (octet === undefined) return launchPlain(name, plainText(headDim), buffers, { dtype, headDim }, shape, products);
  const kernel = buildKernel({
    name,
    spec: { dtype, ...octet },
    params: PLACE_PARAMS,
    buffers,
    workgroupSize: 8 * octet.octets,
    lane: true,
    body: () => octetText(octet),
  });
  return launchOctets(kernel, octet, spec, shape, products);
}
