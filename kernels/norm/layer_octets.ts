/**
 * Norms over the channels of rows by octets: eight lanes walk the columns of {@linkcode GROUP_ROWS} rows, so weights
 * and modulation are loaded once for all of them and sums need no barrier. The values are read once for each pass.
 */
import { type Target, THREADS } from "../core/kernel.ts";
import { unroll } from "../core/wgsl.ts";
import { LANES, laneSums } from "../reduce/lanes.ts";
import type { ColumnWeights, NormText } from "./layer_text.ts";
import { GROUP_ROWS, locateRows } from "./rows.ts";

/** Workgroups for `groups` groups of rows. */
export function octetWorkgroups(groups: number): number {
  return Math.ceil(groups * LANES / THREADS);
}

const LOCATE = `${locateRows(`gid / ${LANES}u`)}\n  let l = gid % ${LANES}u;`;

const each = (line: (i: number) => string): string => unroll(GROUP_ROWS, line);
/** One component per row of the group: `vec4f(f(0), f(1), f(2), f(3))`. */
const packed = (f: (i: number) => string): string => `vec4f(${unroll(GROUP_ROWS, f, ", ")})`;
const component = (i: number): string => "xyzw"[i]!;
const columns = (body: string, first = "l"): string =>
  `  for (var c = ${first}; c < params.width4; c += ${LANES}u) {\n${body}\n  }`;

function text(target: Target, body: string): NormText {
  return { declarations: laneSums(target), body };
}

/**
 * `mean` and `square` (sum of squared distances from it) of the four rows in one pass over memory. Every component of
 * every lane measures its values from its own first one, o, and keeps S = sum(x - o) and Q = sum((x - o)^2); its share
 * of the squares is Q - S^2 / n + n (o + S / n - mean)^2. The subtraction cannot cancel badly as a far-off o is itself
 * part of the row: the error relative to the result stays below about 2n roundings, n = width / 32.
 */
const STATISTICS = `
  let n = select(0.0, f32((params.width4 + ${LANES - 1}u - l) / ${LANES}u), l < params.width4);
  let share = 1.0 / max(n, 1.0);
  let origin_at = min(l, params.width4 - 1u);
${each((i) => `  let o${i} = load_x(row${i} * params.width4 + origin_at); var s${i} = vec4f(0); var q${i} = vec4f(0);`)}
${
  columns(
    each((i) =>
      `    { let v = load_x(row${i} * params.width4 + c) - o${i}; s${i} = s${i} + v; q${i} = q${i} + v * v; }`
    ),
    `l + ${LANES}u`,
  )
}
  let mean = lane_sum4(${packed((i) => `dot(o${i} * n + s${i}, vec4f(1))`)}, li) * params.inverse_width;
${
  each((i) =>
    `  let d${i} = o${i} + s${i} * share - mean.${component(i)};
  q${i} = q${i} - s${i} * s${i} * share + n * d${i} * d${i};`
  )
}
  let square = lane_sum4(${packed((i) => `dot(q${i}, vec4f(1))`)}, li);`;

/** Layer norm: `affine` declares `a` and `d`. */
export function octetLayerNorm({ target, start, affine }: ColumnWeights): NormText {
  return text(
    target,
    `${LOCATE}${start}
${STATISTICS}
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
      columns(
        `${affine("c")}\n` + each((i) =>
          `    if (live${i}) {
      let at = row${i} * params.width4 + c;
      store_y(at, (load_x(at) - mean.${component(i)}) * rs.${component(i)} * a + d);
    }`
        ),
      )
    }
  if (l == 0u) {
${each((i) => `    if (live${i}) { store_stats(row${i}, vec4f(mean.${component(i)}, rs.${component(i)}, 0, 0)); }`)}
  }`,
  );
}

/** Gradient of layer norm in x: `affine` declares `weight`. */
export function octetLayerNormBackward({ target, start, affine }: ColumnWeights, accumulate: boolean): NormText {
  const load = (i: number) =>
    `let at = row${i} * params.width4 + c;
      let gw = load_g(at) * weight;
      let xhat = (load_x(at) - stats${i}.x) * stats${i}.y;`;
  return text(
    target,
    `${LOCATE}${start}
${each((i) => `  let stats${i} = load_stats(row${i});\n  var p${i} = vec4f(0);\n  var q${i} = vec4f(0);`)}
${
      columns(
        `${affine("c")}\n` + each((i) =>
          `    {
      ${load(i)}
      p${i} = p${i} + gw;
      q${i} = q${i} + gw * xhat;
    }`
        ),
      )
    }
  let sum = lane_sum4(${packed((i) => `dot(p${i}, vec4f(1))`)}, li) * params.inverse_width;
  let product = lane_sum4(${packed((i) => `dot(q${i}, vec4f(1))`)}, li) * params.inverse_width;
${
      columns(
        `${affine("c")}\n` + each((i) =>
          `    if (live${i}) {
      ${load(i)}
      let d = stats${i}.y * (gw - sum.${component(i)} - xhat * product.${component(i)});
      store_dx(at, ${accumulate ? "load_dx(at) + d" : "d"});
    }`
        ),
      )
    }`,
  );
}

/** RMS norm: `affine` declares `gamma`. */
export function octetRmsNorm({ target, start, affine }: ColumnWeights): NormText {
  return text(
    target,
    `${LOCATE}${start}
${each((i) => `  var q${i} = vec4f(0);`)}
${
      columns(
        each((i) => `    { let v = load_x(row${i} * params.width4 + c); q${i} = q${i} + v * v; }`),
      )
    }
  let square = lane_sum4(${packed((i) => `dot(q${i}, vec4f(1))`)}, li);
  let rs = inverseSqrt(square * params.inverse_width + params.eps);
${
      columns(
        `${affine("c")}\n` + each((i) =>
          `    if (live${i}) {
      let at = row${i} * params.width4 + c;
      store_y(at, load_x(at) * rs.${component(i)} * gamma);
    }`
        ),
      )
    }`,
  );
}
