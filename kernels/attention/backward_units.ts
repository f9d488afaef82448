/**
 * Attention backward on matrix units: scores, gradients of scores and weighted sums of f16 operands and f32 sums.
 *
 * Weights p are at most 1, as the log-sum-exp is known: they are staged times 2^{@linkcode WEIGHT_EXPONENT}, which
 * keeps 11 bits of weights down to 2^-26 (attention spread evenly over 17,776 keys has weights of 2^-14). Gradients of
 * scores, ds = p (dp - delta), have a scale of their own that follows their size like that of any operand.
 */
import { unroll } from "../core/wgsl.ts";
import { MOST } from "../core/half_scales.ts";
import { type AttentionTile, place, type UnitsText } from "./unit_tile.ts";
import { declarations, line, loadOwn, type Operands, unscaled, untilFits } from "./unit_rows.ts";
import {
  readScores,
  scoreColumns,
  scoreShare,
  shiftSums,
  store,
  type Sum,
  walkOthers,
  writeWeights,
} from "./unit_sums.ts";

/** Power of two by which weights are multiplied. */
const WEIGHT_EXPONENT = 12;

/**
 * Most that a score may exceed its row's log-sum-exp by, in powers of two: rounding makes it up to a few units of the
 * score.
 */
const EXCESS = 3;

/** Factors that turn sums of units into scores in powers of two and into gradients of weights. */
function factors(
  operands: Operands,
  [query, key]: readonly [string, string],
  [dout, value]: readonly [string, string],
): string {
  return `let inside = ${scoreColumns(operands.tile)} <= vec4u(last);
let unit_score = params.scale * ${Math.LOG2E} * ${unscaled(operands, [query, key])};
let unit_gradient = ${unscaled(operands, [dout, value])};`;
}

/** Weight and gradient of the score of group i, as `p` and `ds`, from the statistics of its queries. */
function gradient(tile: AttentionTile, i: number, lse: string, delta: string): string {
  return `let p = select(vec4f(0), exp2(min(${
    readScores(tile, "scores", i)
  } * unit_score - ${lse}, vec4f(${EXCESS}.0))), inside);
let ds = p * (${readScores(tile, "gradients", i)} * unit_gradient - ${delta});`;
}

/** Writes ds scaled; a scale that is outgrown is recorded. */
function writeGradient(operands: Operands, i: number): string {
  return `let t = ds * ds_scale;
if (largest(t) > ${MOST}) { grow(${line(operands, "ds")}u, largest(ds)); atomicStore(&grown, 1u); }
${writeWeights(operands.tile, "ds_weights", i, "t")}`;
}

/** Writes the gradients of all groups until they fit their scale; `sum` follows. */
function writeGradients(operands: Operands, write: string, sum: Sum): string {
  return untilFits(
    operands,
    write,
    `ds_scale = power(exponents[${line(operands, "ds")}u]);
if (j0 > 0u) {
${shiftSums(operands, [sum], () => "ds")}
}`,
  );
}

const DS_SCALE = (operands: Operands) => `var ds_scale = power(exponents[${line(operands, "ds")}u]);`;

const DQ: Sum = { name: "sum", weights: "ds_weights", values: "key" };

function queryBody(operands: Operands): string {
  const { tile } = operands;
  const { groups, apart, place: share } = scoreShare(tile);
  const each = (text: (i: number) => string) => unroll(groups, text);
  const weigh = `${factors(operands, ["query", "key"], ["dout", "value"])}
${
    writeGradients(
      operands,
      each((i) => `{ ${gradient(tile, i, `lse${i}`, `delta${i}`)}\n${writeGradient(operands, i)} }`),
      DQ,
    )
  }`;
  return `${place(tile)}
${loadOwn(operands)}
${share}
${DS_SCALE(operands)}
${
    each((i) =>
      `let at${i} = statistics + min(row0 + score_line + ${i * apart}u, last);
let lse${i} = element_lse(at${i}) * ${Math.LOG2E}; let delta${i} = element_delta(at${i});`
    )
  }
${walkOthers(operands, [DQ], [["query", "key", "scores"], ["dout", "value", "gradients"]], weigh)}
let unit_sum = params.scale * ${unscaled(operands, ["ds", "key"])};
${store(tile, DQ, "dq", "v * unit_sum")}`;
}

const DV: Sum = { name: "sum_dv", weights: "p_weights", values: "dout" };
const DK: Sum = { name: "sum_dk", weights: "ds_weights", values: "query" };

function keyValueBody(operands: Operands): string {
  const { tile } = operands;
  const { groups, place: share } = scoreShare(tile);
  const each = (text: (i: number) => string) => unroll(groups, text);
  // The columns of a step are queries here.
  const ofColumns = (name: string) =>
    `vec4f(${unroll(4, (q) => `element_${name}(statistics + min(columns[${q}], last))`, ", ")})`;
  const weigh = `${factors(operands, ["query", "key"], ["dout", "value"])}
let columns = ${scoreColumns(tile)};
let lse = ${ofColumns("lse")} * ${Math.LOG2E};
let delta = ${ofColumns("delta")};
${
    writeGradients(
      operands,
      each((i) =>
        `{ ${gradient(tile, i, "lse", "delta")}
${writeWeights(tile, "p_weights", i, `p * ${2 ** WEIGHT_EXPONENT}.0`)}
${writeGradient(operands, i)} }`
      ),
      DK,
    )
  }`;
  return `${place(tile)}
${loadOwn(operands)}
${share}
${DS_SCALE(operands)}
${walkOthers(operands, [DV, DK], [["key", "query", "scores"], ["value", "dout", "gradients"]], weigh)}
let unit_dv = ${1 / 2 ** WEIGHT_EXPONENT} * ${unscaled(operands, ["dout"])};
let unit_dk = params.scale * ${unscaled(operands, ["ds", "query"])};
${store(tile, DV, "dv", "v * unit_dv")}
${store(tile, DK, "dk", "v * unit_dk")}`;
}

function operandsOf(
  tile: AttentionTile,
  half: boolean,
  own: readonly string[],
  others: readonly [string, string],
): Operands {
  return { tile, half, own, others, weights: ["ds"] };
}

function queryOperands(tile: AttentionTile, half: boolean): Operands {
  return operandsOf(tile, half, ["query", "dout"], ["key", "value"]);
}

/** The pass that makes the gradient of the queries. */
export const QUERY_UNITS: UnitsText = {
  kept: { scores: 2, weights: 1, lines: 5 },
  declarations: (tile, half) => declarations(queryOperands(tile, half), ["scores", "gradients"], ["ds_weights"]),
  body: (tile, half) => queryBody(queryOperands(tile, half)),
};

function keyValueOperands(tile: AttentionTile, half: boolean): Operands {
  return operandsOf(tile, half, ["key", "value"], ["query", "dout"]);
}

/** The pass that makes the gradients of the keys and values. */
export const KEY_VALUE_UNITS: UnitsText = {
  kept: { scores: 2, weights: 2, lines: 5 },
  declarations: (tile, half) =>
    declarations(keyValueOperands(tile, half), ["scores", "gradients"], ["p_weights", "ds_weights"]),
  body: (tile, half) => keyValueBody(keyValueOperands(tile, half)),
};
