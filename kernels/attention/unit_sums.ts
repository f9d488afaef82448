/**
 * What attention multiplies on matrix units. Scores [own rows, step] leave the units through workgroup memory, threads
 * turn them into weights, and the weights return to the units as the left operand of the sums.
 */
import { unroll } from "../core/wgsl.ts";
import { addProduct, emptySum, loadLeft, loadRight, paddedStride, passSums, storeSum } from "../core/units.ts";
import { fetchOthers, line, type Operands, prepareOthers, putOther, tall, untilFits } from "./unit_rows.ts";
import { attentionThreads, type AttentionTile, scoreStride } from "./unit_tile.ts";

/** Runs `text` for the subgroups that have rows. */
function busy({ subgroups }: AttentionTile, text: string): string {
  return `if (subgroup_id < ${subgroups}u) {\n${text}\n}`;
}

/** A sum that grows by `weights` times rows of another operand. */
export interface Sum {
  readonly name: string;
  readonly weights: string;
  readonly values: string;
}

/** Names of the units of a sum: rows by columns. */
function unitsOf(tile: AttentionTile, name: string): string[] {
  const wide = tile.headDim / tile.n;
  return Array.from({ length: tall(tile) * wide }, (_, u) => `${name}_${Math.floor(u / wide)}_${u % wide}`);
}

/** Declares sums, empty. */
function declareSums(tile: AttentionTile, sums: readonly Sum[]): string {
  return sums.map(({ name }) => unitsOf(tile, name).map((unit) => emptySum(tile, unit)).join(" ")).join(
    "\n",
  );
}

/**
 * Elements of the sums in workgroup memory, four by four: `row` and `column` of the tile and the index `e` of the
 * group.
 */
function walkSums(tile: AttentionTile, body: string): string {
  const { m, n, subgroups, rows, headDim } = tile;
  const wide = headDim / n;
  return `for (var e = li; e < ${subgroups * m * n / 4}u; e += ${attentionThreads(tile)}u) {
let row = e / ${m * n / 4}u * ${rows / subgroups}u + unit / ${wide}u * ${m}u + e % ${m * n / 4}u / ${n / 4}u;
let column = unit % ${wide}u * ${n}u + e % ${n / 4}u * 4u;
let v = vec4f(${unroll(4, (q) => `sums[4u * e + ${q}u]`, ", ")});
${body}
}`;
}

/** Multiplies every row of a sum by its number in `factors`. */
export function rescale(tile: AttentionTile, { name }: Sum): string {
  const work = walkSums(tile, unroll(4, (q) => `sums[4u * e + ${q}u] = v[${q}] * factors[row];`, " "));
  return passSums(tile, tile.subgroups, unitsOf(tile, name), { work, returns: true });
}

/** Stores a sum as rows of `buffer`; `value` is the expression for the group `v` of `row`. */
export function store(tile: AttentionTile, { name }: Sum, buffer: string, value: string): string {
  const work = walkSums(
    tile,
    `if (row0 + row <= last) { store_${buffer}(origin + (row0 + row) * params.stride4 + column / 4u, ${value}); }`,
  );
  return passSums(tile, tile.subgroups, unitsOf(tile, name), { work, returns: false });
}

/** Multiplies whole sums by the shift of a scale. */
export function shiftSums(operands: Operands, sums: readonly Sum[], name: (sum: Sum) => string): string {
  const { tile } = operands;
  return sums.map((sum) =>
    `for (var row = li; row < ${tile.rows}u; row += ${attentionThreads(tile)}u) { factors[row] = power(shifts[${
      line(operands, name(sum))
    }u]); }
${rescale(tile, sum)}`
  ).join("\n");
}

/** Stages the fetched rows; `sums` follow where the scale of their values is lowered. */
function stageOthers(operands: Operands, sums: readonly Sum[]): string {
  const { half, others } = operands;
  const put = others.map((name) => putOther(operands, name)).join("\n");
  if (half) return `${put}\nworkgroupBarrier();`;
  return untilFits(
    operands,
    put,
    `${others.map((name) => `${name}_scale = power(exponents[${line(operands, name)}u]);`).join("\n")}
if (j0 > 0u) {
${shiftSums(operands, sums, ({ values }) => values)}
}`,
  );
}

/** Products of the own rows with the staged ones: `into` [rows, step] becomes own other^T. */
function scoresText({ tile }: Operands, own: string, other: string, into: string): string {
  const { m, n, k, step, headDim } = tile;
  const stride = paddedStride(headDim);
  const rows = tall(tile);
  const columns = step / n;
  const each = (text: (i: number, c: number) => string) => unroll(rows, (i) => unroll(columns, (c) => text(i, c)));
  return busy(
    tile,
    `${each((i, c) => emptySum(tile, `s${i}_${c}`))}
${
      unroll(headDim / k, (q) =>
        unroll(columns, (c) =>
          `{ let right = ${loadRight(tile, `${other}_stage`, `${c * n * stride + q * k}u`, "col_major", stride)};
${
            unroll(rows, (i) =>
              addProduct(`s${i}_${c}`, `${own}_${i}_${q}`, "right"))
          } }`))
    }
${
      each((i, c) =>
        storeSum(
          into,
          `first_row * ${scoreStride(tile)}u + ${i * m * scoreStride(tile) + c * n}u`,
          `s${i}_${c}`,
          scoreStride(tile),
        )
      )
    }`,
  );
}

/** Adds the staged rows, weighted, to a sum. */
function addWeighted(tile: AttentionTile, { name, weights, values }: Sum): string {
  const { m, n, k, step, headDim } = tile;
  const stride = paddedStride(headDim);
  const rows = tall(tile);
  const weightStride = paddedStride(step);
  return busy(
    tile,
    unroll(
      step / k,
      (q) =>
        `{ ${
          unroll(rows, (i) =>
            `let left${i} = ${
              loadLeft(
                tile,
                weights,
                `first_row * ${weightStride}u + ${i * m * weightStride + q * k}u`,
                "row_major",
                weightStride,
              )
            };`)
        }
${
          unroll(headDim / n, (d) =>
            `{ let right = ${loadRight(tile, `${values}_stage`, `${q * k * stride + d * n}u`, "row_major", stride)};
${
              unroll(rows, (i) => addProduct(`${name}_${i}_${d}`, `left${i}`, "right"))
            } }`)
        } }`,
    ),
  );
}

/**
 * How threads share the scores: thread `li` has four columns, `score_four` and others a quarter of the step apart, of
 * the rows `score_line + i * apart`. Neighbours so read and write neighbours; with four columns in a row each, the 32
 * threads of a subgroup would meet eight of 32 banks.
 */
export function scoreShare(
  tile: AttentionTile,
): { readonly groups: number; readonly apart: number; readonly place: string } {
  const fours = tile.step / 4;
  const threads = attentionThreads(tile);
  return {
    groups: tile.rows * fours / threads,
    apart: threads / fours,
    place: `let score_four = li % ${fours}u;\nlet score_line = li / ${fours}u;`,
  };
}

/** The thread's group i of an array of scores. */
export function readScores(tile: AttentionTile, from: string, i: number): string {
  const at = (q: number) =>
    `(score_line + ${i * scoreShare(tile).apart}u) * ${scoreStride(tile)}u + score_four + ${q * tile.step / 4}u`;
  return `vec4f(${unroll(4, (q) => `${from}[${at(q)}]`, ", ")})`;
}

/** Writes the thread's group i of an array of weights. */
export function writeWeights(tile: AttentionTile, to: string, i: number, value: string): string {
  const at = (q: number) =>
    `(score_line + ${i * scoreShare(tile).apart}u) * ${paddedStride(tile.step)}u + score_four + ${q * tile.step / 4}u`;
  return `{ let h = vec4<f16>(${value}); ${unroll(4, (q) => `${to}[${at(q)}] = h[${q}];`, " ")} }`;
}

/** The thread's columns as rows of the sequence. */
export function scoreColumns({ step }: AttentionTile): string {
  return `(vec4u(j0 + score_four) + vec4u(${unroll(4, (q) => `${q * step / 4}u`, ", ")}))`;
}

/** The walk over the other operands: `weigh` turns scores into weights of the step at `j0`. */
export function walkOthers(
  operands: Operands,
  sums: readonly Sum[],
  scores: readonly (readonly [own: string, other: string, into: string])[],
  weigh: string,
): string {
  const { tile } = operands;
  return `${prepareOthers(operands)}
${declareSums(tile, sums)}
${fetchOthers(operands, "0u")}
for (var j0 = 0u; j0 <= last; j0 += ${tile.step}u) {
${stageOthers(operands, sums)}
if (j0 + ${tile.step}u <= last) {
${fetchOthers(operands, `j0 + ${tile.step}u`)}
}
${scores.map(([own, other, into]) => scoresText(operands, own, other, into)).join("\n")}
workgroupBarrier();
${weigh}
${sums.map((sum) => addWeighted(tile, sum)).join("\n")}
workgroupBarrier();
}`;
}
