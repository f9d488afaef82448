/**
 * How rows of the operands of attention reach matrix units. Every subgroup holds its rows of the own operands in
 * registers; the rows of the two other operands pass through workgroup memory as f16, a step at a time.
 *
 * Each operand has one scale for the rows that a workgroup meets (kernels/core/half_scales.ts): scores are sums over a
 * row, and what a small row loses, 2^-31 of the largest number, is below what the largest row's scores are rounded to.
 */
import { unroll } from "../core/wgsl.ts";
import { loadLeft, paddedStride } from "../core/units.ts";
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

/** Units of a subgroup's rows. */
export function tall({ rows, subgroups, m }: AttentionTile): number {
  return rows / subgroups / m;
}

/**
 * Sets the scales, those of the own rows by their largest numbers and the others as unseen, and loads the own rows into
 * left matrices `{name}_{i}_{q}`.
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
export function prepareOthers({ tile, half, others }: Operands): string {
  const { groups, fours } = share(tile);
  return `let walk_line = li / ${fours}u;
let walk_four = li % ${fours}u;
${others.map((name) => unroll(groups, (i) => `var ${name}${i} = ${half ? "vec4<f16>()" : "vec4f()"};`, " ")).join("\n")}
${half ? "" : others.map((name) => `var ${name}_scale = power(${FIRST_EXPONENT});`).join("\n")}`;
}

/** Fetches the thread's groups of the step that begins at row `from`. Rows past the end read the last one. */
export function fetchOthers({ tile, others }: Operands, from: string): string {
  const { groups, apart } = share(tile);
  return unroll(
    groups,
    (i) =>
      `{ let at = row_at(origin, ${from} + walk_line + ${i * apart}u, params.stride4, last) + walk_four;
${others.map((name) => `${name}${i} = load_${name}(at);`).join(" ")} }`,
  );
}

/** Copies the fetched groups of the step at `j0` to the stage, with zeros past the end. */
export function putOther(operands: Operands, name: string): string {
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

/** Lowers the scales that numbers outgrew, and clears the flag. */
function settleLines(operands: Operands): string {
  return `if (li < ${linesOf(operands)}u) { settle(li); }
if (li == 0u) { atomicStore(&grown, 0u); }
workgroupBarrier();`;
}

/**
 * Repeats `write` once when it outgrew a scale: `adapt` then lets the sums so far follow. What is too large even for
 * the lowered scale is infinite.
 */
export function untilFits(operands: Operands, write: string, adapt: string): string {
  return `for (var attempt = 0u; attempt < 2u; attempt++) {
${write}
if (workgroupUniformLoad(&grown) == 0u) { break; }
${settleLines(operands)}
${adapt}
}`;
}
