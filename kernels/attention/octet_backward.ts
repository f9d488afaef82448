/**
 * Attention backward over octets. With p = exp(scale q k^T - lse), dp = dout v^T and delta = rowsum(o dout):
 * dv = p^T dout, ds = p (dp - delta), dq = scale ds k, dk = scale ds^T q. Scores are computed again, never stored.
 */
import { unroll } from "../core/wgsl.ts";
import {
  accumulators,
  LANE_ROWS,
  type Octet,
  ownRows,
  place,
  scoresText,
  share,
  STEP_ROWS,
  storeRows,
  weightedSumText,
} from "./octet.ts";
import { HEAD_STATISTICS } from "./shape.ts";

/** A per-query number of the octet's head; `lse` in units of log2, because the scores are. */
const STATISTICS = `let statistics = ${HEAD_STATISTICS};`;

function statistic(name: "lse" | "delta", row: string): string {
  const at = `(statistics + min(${row}, last))`;
  return `element_${name}(${at})${name === "lse" ? ` * ${Math.LOG2E}` : ""}`;
}

/** Octets per query rows: dq. */
export function octetQuery(octet: Octet): string {
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

/** Octets per key rows: dk and dv. */
export function octetKeyValue(octet: Octet): string {
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
