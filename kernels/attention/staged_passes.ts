/** The three passes of attention through workgroup memory; formulas in kernels/attention/attention.ts. */
import { unroll } from "../core/wgsl.ts";
import {
  accumulators,
  COLUMN,
  putWeights,
  rowOf,
  rowsOf,
  scores,
  shared,
  stageColumns,
  type StagedPass,
  type StagedRows,
  stageRows,
  storeRows,
  walk,
  weightedSum,
} from "./staged.ts";

/** Running maximum of an empty row, and the score of a key past the end: finite, so that differences stay finite. */
const LOWEST = "-1e30";

/** Which of the thread's four rows of a step lie inside the sequence. */
const INSIDE = `let inside = vec4u(${unroll(4, (q) => `${COLUMN} + ${q}u`, ", ")}) <= vec4u(last);`;

/** Per-query numbers of the thread's four rows of a step. */
function ofColumns(name: string): string {
  return `vec4f(${unroll(4, (q) => `element_${name}(statistics + min(${COLUMN} + ${q}u, last))`, ", ")})`;
}

const BARRIER = "workgroupBarrier();";

/** Online softmax: what was summed before is rescaled when a step raises the maximum of a row. */
function forward(tile: StagedRows): string {
  const each = (text: (i: number) => string) => unroll(rowsOf(tile), text);
  const step = (i: number) =>
    `{ let x = select(vec4f(${LOWEST}), s${i} * scale2, inside);
var y = max(max(x.x, x.y), max(x.z, x.w)); ${shared("y", (a, b) => `max(${a}, ${b})`)}
let top = max(m${i}, y); let shrink = exp2(m${i} - top); m${i} = top;
s${i} = exp2(x - top);
l${i} = l${i} * shrink + ((s${i}.x + s${i}.y) + (s${i}.z + s${i}.w));
${unroll(tile.headDim / 32, (v) => `o${i}_${v} = o${i}_${v} * shrink;`, " ")} }`;
  return `${accumulators(tile, "o")}
${each((i) => `var m${i} = ${LOWEST}; var l${i} = 0.0;`)}
${
    walk(`${stageColumns(tile, "key")}
${BARRIER}
${scores(tile, "s", "query")}
${INSIDE}
${each(step)}
${BARRIER}
${putWeights(tile, "s")}
${stageRows(tile, "value")}
${BARRIER}
${weightedSum(tile, "o")}`)
  }
${each((i) => shared(`l${i}`, (a, b) => `${a} + ${b}`))}
${storeRows(tile, "o", (i, v) => `o${i}_${v} / l${i}`)}
if (tx == 0u) {
${
    each((i) =>
      `if (${rowOf(tile, i)} <= last) { store_element_lse(statistics + ${
        rowOf(tile, i)
      }, m${i} * ${Math.LN2} + log(l${i})); }`
    )
  }
}`;
}

function query(tile: StagedRows): string {
  const each = (text: (i: number) => string) => unroll(rowsOf(tile), text);
  const ofRow = (name: string, i: number) => `element_${name}(statistics + min(${rowOf(tile, i)}, last))`;
  return `${accumulators(tile, "sum")}
${each((i) => `let lse${i} = ${ofRow("lse", i)} * ${Math.LOG2E}; let delta${i} = ${ofRow("delta", i)};`)}
${
    walk(`${stageColumns(tile, "key")}
${BARRIER}
${scores(tile, "s", "query")}
${BARRIER}
${stageColumns(tile, "value")}
${BARRIER}
${scores(tile, "d", "dout")}
${INSIDE}
${each((i) => `s${i} = select(vec4f(0), exp2(s${i} * scale2 - lse${i}) * (d${i} - delta${i}), inside);`)}
${BARRIER}
${putWeights(tile, "s")}
${stageRows(tile, "key")}
${BARRIER}
${weightedSum(tile, "sum")}`)
  }
${storeRows(tile, "dq", (i, v) => `params.scale * sum${i}_${v}`)}`;
}

function keyValue(tile: StagedRows): string {
  const each = (text: (i: number) => string) => unroll(rowsOf(tile), text);
  return `${accumulators(tile, "dk")}
${accumulators(tile, "dv")}
${
    walk(`${stageColumns(tile, "query")}
${BARRIER}
${scores(tile, "s", "key")}
${BARRIER}
${stageColumns(tile, "dout")}
${BARRIER}
${scores(tile, "d", "value")}
${INSIDE}
let lse = ${ofColumns("lse")} * ${Math.LOG2E};
let delta = ${ofColumns("delta")};
${each((i) => `s${i} = select(vec4f(0), exp2(s${i} * scale2 - lse), inside); d${i} = s${i} * (d${i} - delta);`)}
${BARRIER}
${putWeights(tile, "s")}
${stageRows(tile, "dout")}
${BARRIER}
${weightedSum(tile, "dv")}
${BARRIER}
${putWeights(tile, "d")}
${stageRows(tile, "query")}
${BARRIER}
${weightedSum(tile, "dk")}`)
  }
${storeRows(tile, "dk", (i, v) => `params.scale * dk${i}_${v}`)}
${storeRows(tile, "dv", (i, v) => `dv${i}_${v}`)}`;
}

/** o and lse: the workgroup owns queries. */
export const STAGED_FORWARD: StagedPass = { own: ["query"], body: forward };

/** dq: the workgroup owns queries. */
export const STAGED_QUERY: StagedPass = { own: ["query", "dout"], body: query };

/** dk and dv: the workgroup owns keys. */
export const STAGED_KEY_VALUE: StagedPass = { own: ["key", "value"], body: keyValue };
