/**
 * Attention forward over octets: online softmax, so no sequence x sequence matrix; the log-sum-exp is kept for the
 * backward pass.
 */
import { unroll } from "../core/wgsl.ts";
import {
  accumulators,
  LANE_ROWS,
  type Octet,
  ownRows,
  place,
  scoresText,
  STEP_ROWS,
  storeRows,
  tree,
  weightedSumText,
} from "./octet.ts";
import { HEAD_STATISTICS } from "./shape.ts";

/** Running maximum of an empty row, and the score of a key past the end: finite, so that differences stay finite. */
const LOWEST = "-1e30";

/** Softmax of row i over this step's keys; what was summed before is rescaled to the larger maximum. */
function softmaxStep(i: number, groups: number): string {
  const s = (t: number) => `s${i}_${t}`;
  return `{ ${unroll(LANE_ROWS, (t) => `${s(t)} = select(${LOWEST}, ${s(t)} * scale2, key${t} <= last);`, " ")}
var x = max(max(${s(0)}, ${s(1)}), max(${s(2)}, ${s(3)})); ${tree("x", (a, b) => `max(${a}, ${b})`)}
let top = max(m${i}, x); let shrink = exp2(m${i} - top); m${i} = top;
${unroll(LANE_ROWS, (t) => `${s(t)} = exp2(${s(t)} - top);`, " ")}
l${i} = l${i} * shrink + ((${s(0)} + ${s(1)}) + (${s(2)} + ${s(3)}));
${unroll(groups, (g) => `o${i}_${g} = o${i}_${g} * shrink;`, " ")} }`;
}

/** Octets per query rows: online softmax over steps of 32 keys. */
export function octetForward(octet: Octet): string {
  const { rows, headDim } = octet;
  return `${place(octet)}
${ownRows(octet)}
${unroll(rows, (i) => `var m${i} = ${LOWEST}; var l${i} = 0.0;`)}
${accumulators(octet, "o")}
for (var j0 = 0u; j0 <= last; j0 += ${STEP_ROWS}u) {
${scoresText(octet, [{ acc: "s", own: "query", other: "key" }])}
${unroll(LANE_ROWS, (t) => `let key${t} = j0 + ${8 * t}u + ln;`)}
${unroll(rows, (i) => softmaxStep(i, headDim / 32))}
${weightedSumText(octet, [{ acc: "o", weight: "s", values: "value" }])}
}
${unroll(rows, (i) => tree(`l${i}`, (a, b) => `${a} + ${b}`))}
${storeRows(octet, "o", (i, g) => `o${i}_${g} / l${i}`)}
${
    unroll(rows / 8, (n) =>
      `{ var top = m${8 * n}; var sum = l${8 * n};
${unroll(7, (i) => `if (ln == ${i + 1}u) { top = m${8 * n + i + 1}; sum = l${8 * n + i + 1}; }`)}
let row = row0 + ${8 * n}u + ln;
if (row <= last) { let at = ${HEAD_STATISTICS} + row; store_element_lse(at, top * ${Math.LN2} + log(sum)); } }`)
  }`;
}
