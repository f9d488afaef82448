/**
 * Attention forward on matrix units: scores and weighted sums of f16 operands and f32 sums.
 *
 * Weights are exp(score - m) for a number m per row that is raised only when a score exceeds it by {@linkcode HEADROOM}
 * (as FlashAttention-4 does): f16 holds larger weights as well as smaller ones, so the sums of most steps need no new
 * factor, and no step needs the maximum of a row, which would be a reduction through workgroup memory.
 */
import { unroll } from "../core/wgsl.ts";
import { type AttentionTile, place, type UnitsText } from "./unit_tile.ts";
import { declarations, loadOwn, type Operands, unscaled, untilFits } from "./unit_rows.ts";
import {
  readScores,
  rescale,
  scoreColumns,
  scoreShare,
  store,
  type Sum,
  walkOthers,
  writeWeights,
} from "./unit_sums.ts";

/** Scores above m by more than this many powers of two raise it. A weight of 2^13 leaves f16 room for rounding. */
const HEADROOM = 13;

/** m of a row without scores, and the score of a key past the end: finite, so that differences stay finite. */
const LOWEST = "-1e30";

/** Floats as integers of the same order, for maxima by atomics. 0 stands for none: it belongs to a NaN. */
const ORDERED = `fn ordered(x: f32) -> u32 {
  let b = bitcast<u32>(x);
  return select(b | 0x80000000u, ~b, b >> 31u == 1u);
}
fn from_ordered(k: u32) -> f32 { return bitcast<f32>(select(~k, k & 0x7fffffffu, k >> 31u == 1u)); }`;

const OUTPUT: Sum = { name: "out", weights: "weights", values: "value" };

function weigh(operands: Operands): string {
  const { tile } = operands;
  const { groups, apart } = scoreShare(tile);
  const each = (text: (i: number) => string) => unroll(groups, text);
  const row = (i: number) => `score_line + ${i * apart}u`;
  return `let inside = ${scoreColumns(tile)} <= vec4u(last);
let unit_score = params.scale * ${Math.LOG2E} * ${unscaled(operands, ["query", "key"])};
${each((i) => `var w${i} = 0.0;`)}
${
    untilFits(
      operands,
      each((i) =>
        `{ let s = select(vec4f(${LOWEST}), ${readScores(tile, "scores", i)} * unit_score, inside);
let p = exp2(s - m${i});
w${i} = (p.x + p.y) + (p.z + p.w);
if (largest(p) > ${2 ** HEADROOM}.0) { atomicMax(&tops_of_rows[${
          row(i)
        }], ordered(max(max(s.x, s.y), max(s.z, s.w)))); atomicStore(&grown, 1u); }
${writeWeights(tile, "weights", i, "p")} }`
      ),
      `${
        each((i) =>
          `{ let top = atomicLoad(&tops_of_rows[${row(i)}]);
if (top != 0u) { let raised = from_ordered(top); let shrink = exp2(m${i} - raised); m${i} = raised; l${i} = l${i} * shrink; if (score_four == 0u) { factors[${
            row(i)
          }] = shrink; } }
else if (score_four == 0u) { factors[${row(i)}] = 1.0; } }`
        )
      }
workgroupBarrier();
if (score_four == 0u) { ${each((i) => `atomicStore(&tops_of_rows[${row(i)}], 0u);`)} }
if (j0 > 0u) {
${rescale(tile, OUTPUT)}
}
workgroupBarrier();`,
    )
  }
${each((i) => `l${i} = l${i} + w${i};`)}`;
}

function forwardBody(operands: Operands): string {
  const { tile } = operands;
  const { groups, apart } = scoreShare(tile);
  const fours = tile.step / 4;
  const row = (i: number) => `score_line + ${i * apart}u`;
  const each = (text: (i: number) => string) => unroll(groups, text);
  return `${place(tile)}
${loadOwn(operands)}
${scoreShare(tile).place}
${each((i) => `var m${i} = ${LOWEST}; var l${i} = 0.0;`)}
${walkOthers(operands, [OUTPUT], [["query", "key", "scores"]], weigh(operands))}
// The parts of a row's weight meet where its scores were.
${each((i) => `scores[(${row(i)}) * ${fours}u + score_four] = l${i};`)}
workgroupBarrier();
${
    each((i) =>
      `if (score_four == 0u) {
var total = 0.0;
for (var part = 0u; part < ${fours}u; part++) { total = total + scores[(${row(i)}) * ${fours}u + part]; }
factors[${row(i)}] = total;
if (row0 + ${row(i)} <= last) { store_element_lse(statistics + row0 + ${row(i)}, m${i} * ${Math.LN2} + log(total)); } }`
    )
  }
workgroupBarrier();
let unit_value = ${unscaled(operands, ["value"])};
${store(tile, OUTPUT, "o", "v * unit_value / factors[row]")}`;
}

/** The pass forward on matrix units. */
export const FORWARD_UNITS: UnitsText = {
  kept: { scores: 1, weights: 1, lines: 3 },
  declarations: (tile, half) =>
    `${declarations(operandsOf(tile, half), ["scores"], ["weights"])}
var<workgroup> tops_of_rows: array<atomic<u32>, ${tile.rows}>;
${ORDERED}`,
  body: (tile, half) => forwardBody(operandsOf(tile, half)),
};

function operandsOf(tile: AttentionTile, half: boolean): Operands {
  return { tile, half, own: ["query"], others: ["key", "value"], weights: [] };
}
