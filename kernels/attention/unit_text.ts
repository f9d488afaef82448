/**
 * The building blocks of attention on matrix units. Every subgroup holds its rows of the own operands in registers. The rows of the two
 * other operands pass through workgroup memory as f16, a step at a time. Scores [own rows, step] leave the units through workgroup
 * memory, threads turn them into weights, and the weights return to the units as the left operand of the sums.
 *
 * Each operand has one scale for the rows that a workgroup meets (kernels/core/half_scales.ts): scores are sums over a row, and what a
 * small row loses, 2^-31 of the largest number, is below what the largest row's scores are rounded to.
 */
import { unroll } from "../core/wgsl.ts";
import { addProduct, emptySum, loadLeft, loadRight, paddedStride, passSums, storeSum } from "../core/units.ts";
import { FIRST_EXPONENT, MOST, scaleDeclarations } from "../core/half_scales.ts";
import { attentionThreads, type AttentionTile, scoreStride } from "./unit_tile.ts";

/** What a kernel multiplies. */
export interface Operands {
  readonly tile: AttentionTile;
  /** Whether tensors are f16 and need no scale. */
  readonly half: boolean;
  /** Buffers whose rows the workgroup owns. */
  readonly own: readonly string[];
  /** The two buffers whose rows it walks. */
  readonly others: readonly [string, string];
  /** Weights that are made from scores and have a scale of their own. */
  readonly weights: readonly string[];
}

/** Number of the scale of an operand. */
export function line({ own, others, weights }: Operands, name: string): number {
  return [...own, ...others, ...weights].indexOf(name);
}

function linesOf({ own, others, weights }: Operands): number {
  return own.length + others.length + weights.length;
}

/** Expression of the power of two that turns sums of these operands back. */
export function unscaled(operands: Operands, names: readonly string[]): string {
  const scaled = names.filter((name) => !operands.half || operands.weights.includes(name));
  return ["1.0", ...scaled.map((name) => `power(-exponents[${line(operands, name)}u])`)].join(" * ");
}

/** Workgroup variables: stages of the other operands, `scores` and `weights` by name, sums on their way, scales. */
export function declarations(operands: Operands, scores: readonly string[], weights: readonly string[]): string {
  const { tile, others } = operands;
  const { m, n, subgroups, rows, step, headDim } = tile;
  return [
    ...others.map((name) => `var<workgroup> ${name}_stage: array<f16, ${step * paddedStride(headDim)}>;`),
    ...scores.map((name) => `var<workgroup> ${name}: array<f32, ${rows * scoreStride(tile)}>;`),
    ...weights.map((name) => `var<workgroup> ${name}: array<f16, ${rows * paddedStride(step)}>;`),
    `var<workgroup> sums: array<f32, ${subgroups * m * n}>;`,
    `var<workgroup> factors: array<f32, ${rows}>;`,
    scaleDeclarations(linesOf(operands)),
    `fn row_at(origin: u32, row: u32, stride4: u32, last: u32) -> u32 { return origin + min(row, last) * stride4; }`,
  ].join("\n");
}

/** Runs `text` for the subgroups that have rows. */
function busy({ subgroups }: AttentionTile, text: string): string {
  return `if (subgroup_id < ${subgroups}u) {\n${text}\n}`;
}

/** Units of a subgroup's rows. */
function tall({ rows, subgroups, m }: AttentionTile): number {
  return rows / subgroups / m;
}

/**
 * Sets the scales, those of the own rows by their largest numbers and the others as unseen, and loads the own rows into left
 * matrices `{name}_{i}_{q}`.
 */
export function loadOwn(operands: Operands): string {
  const { tile, half, own, others } = operands;
  const { m, k, rows, step, headDim } = tile;
  const fours = headDim / 4;
  const index = (row: string) => `row_at(origin, ${row}, params.stride4, last) + e % ${fours}u`;
  const walk = (count: number, text: string) =>
    `for (var e = li; e < ${count * fours}u; e += ${attentionThreads(tile)}u) { ${text} }`;
  const lines = linesOf(operands);
  const stride = paddedStride(headDim);
  const scales = half ? "" : own.map((name) =>
    `{ var top = vec4f();
${walk(rows, `top = max(top, abs(load_${name}(${index(`row0 + e / ${fours}u`)})));`)}
grow(${line(operands, name)}u, largest(top)); }`
  ).join("\n");
  const value = (name: string) =>
    half
      ? `load_${name}(${index(`row0 + chunk + e / ${fours}u`)})`
      : `vec4<f16>(load_${name}(${index(`row0 + chunk + e / ${fours}u`)}) * power(exponents[${
        line(operands, name)
      }u]))`;
  const loads = (name: string, i: number) =>
    unroll(
      tall(tile),
      (u) =>
        unroll(headDim / k, (q) =>
          `${name}_${u}_${q} = ${
            loadLeft(
              tile,
              `${others[i]}_stage`,
              `(first_row - chunk) * ${stride}u + ${u * m * stride + q * k}u`,
              "row_major",
              stride,
            )
          };`),
    );
  return `if (li < ${lines}u) { exponents[li] = ${FIRST_EXPONENT}; }
workgroupBarrier();
${scales}
workgroupBarrier();
if (li < ${lines}u) { settle(li); }
workgroupBarrier();
${
    own.map((name) =>
      unroll(tall(tile), (u) =>
        unroll(headDim / k, (q) => `var ${name}_${u}_${q}: subgroup_matrix_left<f16, ${k}, ${m}>;`, " "))
    ).join("\n")
  }
// The stages of the others serve until they are needed.
for (var chunk = 0u; chunk < ${rows}u; chunk += ${step}u) {
${
    own.map((name, i) =>
      walk(
        step,
        `let h = ${value(name)}; let at = e / ${fours}u * ${stride}u + e % ${fours}u * 4u;
${unroll(4, (q) => `${others[i]}_stage[at + ${q}u] = h[${q}];`, " ")}`,
      )
    ).join("\n")
  }
workgroupBarrier();
if (first_row >= chunk && first_row < min(chunk + ${step}u, ${rows}u)) {
${own.map(loads).join("\n")}
}
workgroupBarrier();
}`;
}

/** Groups of four elements of one other operand per thread and step, and the rows between two of them. */
function share(
  { headDim, step, ...tile }: AttentionTile,
): { readonly groups: number; readonly apart: number; readonly fours: number } {
  const threads = tile.lanes * tile.subgroups;
  return { groups: step * headDim / 4 / threads, apart: threads * 4 / headDim, fours: headDim / 4 };
}

/** Registers of the rows that are fetched, and the scales of the others. */
function prepareOthers({ tile, half, others }: Operands): string {
  const { groups, fours } = share(tile);
  return `let walk_line = li / ${fours}u;
let walk_four = li % ${fours}u;
${others.map((name) => unroll(groups, (i) => `var ${name}${i} = ${half ? "vec4<f16>()" : "vec4f()"};`, " ")).join("\n")}
${half ? "" : others.map((name) => `var ${name}_scale = power(${FIRST_EXPONENT});`).join("\n")}`;
}

/** Fetches the thread's groups of the step that begins at row `from`. Rows past the end read the last one. */
function fetchOthers({ tile, others }: Operands, from: string): string {
  const { groups, apart } = share(tile);
  return unroll(
    groups,
    (i) =>
      `{ let at = row_at(origin, ${from} + walk_line + ${i * apart}u, params.stride4, last) + walk_four;
${others.map((name) => `${name}${i} = load_${name}(at);`).join(" ")} }`,
  );
}

/** Copies the fetched groups of the step at `j0` to the stage, with zeros past the end. */
function putOther(operands: Operands, name: string): string {
  const { tile, half } = operands;
  const { groups, apart } = share(tile);
  const stride = paddedStride(tile.headDim);
  const inside = (i: number) => `j0 + walk_line + ${i * apart}u <= last`;
  const each = (text: (i: number) => string) => unroll(groups, text);
  const largest = (value: (i: number) => string) =>
    Array.from({ length: groups }, (_, i) => `abs(${value(i)})`).reduce((a, b) => `max(${a}, ${b})`);
  return `{
${
    each((i) =>
      half
        ? `let h${i} = select(vec4<f16>(), ${name}${i}, ${inside(i)});`
        : `let t${i} = ${name}${i} * select(0.0, ${name}_scale, ${inside(i)}); let h${i} = vec4<f16>(t${i});`
    )
  }
let at = walk_line * ${stride}u + walk_four * 4u;
${each((i) => unroll(4, (q) => `${name}_stage[at + ${i * apart * stride + q}u] = h${i}[${q}];`, " "))}
${
    half ? "" : `if (largest(${largest((i) => `t${i}`)}) > ${MOST}) {
grow(${line(operands, name)}u, largest(${largest((i) => `${name}${i}`)}));
atomicStore(&grown, 1u);
}`
  }
}`;
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

/** Elements of the sums in workgroup memory, four by four: `row` and `column` of the tile and the index `e` of the group. */
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

/** Lowers the scales that numbers outgrew, and clears the flag. */
function settleLines(operands: Operands): string {
  return `if (li < ${linesOf(operands)}u) { settle(li); }
if (li == 0u) { atomicStore(&grown, 0u); }
workgroupBarrier();`;
}

/**
 * Repeats `write` once when it outgrew a scale: `adapt` then lets the sums so far follow. What is too large even for the lowered scale
 * is infinite.
 */
export function untilFits(operands: Operands, write: string, adapt: string): string {
  return `for (var attempt = 0u; attempt < 2u; attempt++) {
${write}
if (workgroupUniformLoad(&grown) == 0u) { break; }
${settleLines(operands)}
${adapt}
}`;
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

/** How threads share the scores: thread `li` has four columns, from `4 * score_four`, of the rows `score_line + i * apart`. */
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
    `(score_line + ${i * scoreShare(tile).apart}u) * ${scoreStride(tile)}u + score_four * 4u + ${q}u`;
  return `vec4f(${unroll(4, (q) => `${from}[${at(q)}]`, ", ")})`;
}

/** Writes the thread's group i of an array of weights. */
export function writeWeights(tile: AttentionTile, to: string, i: number, value: string): string {
  const at = (q: number) =>
    `(score_line + ${i * scoreShare(tile).apart}u) * ${paddedStride(tile.step)}u + score_four * 4u + ${q}u`;
  return `{ let h = vec4<f16>(${value}); ${unroll(4, (q) => `${to}[${at(q)}] = h[${q}];`, " ")} }`;
}

/** Which of the four columns of a step are rows of the sequence. */
export const INSIDE = "vec4u(j0 + 4u * score_four) + vec4u(0u, 1u, 2u, 3u) <= vec4u(last)";

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
