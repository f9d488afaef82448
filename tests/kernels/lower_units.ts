/**
 * Rewrites a text for matrix units of any size into one for units of 8 x 8 x 8: every matrix becomes a grid of such matrices. The
 * software driver has no others, so this is how the texts for cards with 16 x 16 x 16 are run.
 */
import type { Launch } from "../../kernels/core/kernel.ts";

const SIDE = 8;

/** `text(i, j)` for every 8 x 8 part of [rows, columns]. */
function each(rows: number, columns: number, text: (i: number, j: number) => string): string {
  const parts: string[] = [];
  for (let i = 0; i < rows / SIDE; i++) for (let j = 0; j < columns / SIDE; j++) parts.push(text(i, j));
  return parts.join("\n");
}

/** Where part (i, j) begins. */
function partAt(offset: string, major: string, stride: string, i: number, j: number): string {
  const [along, across] = major === "row_major" ? [j, i] : [i, j];
  return `${offset} + ${across * SIDE}u * ${stride} + ${along * SIDE}u`;
}

/** The text with every matrix divided. */
export function lowerUnits(code: string, { m, n, k }: { m: number; n: number; k: number }): string {
  const sizes = { left: [m, k], right: [k, n], result: [m, n] } as const;
  return code
    .replace(
      /var (\w+) = subgroup_matrix_result<[^>]*>\(\);/g,
      (_, name) => each(m, n, (i, j) => `var ${name}_${i}_${j} = subgroup_matrix_result<f32, 8, 8>();`),
    )
    .replace(
      /var (\w+): subgroup_matrix_left<f16[^>]*>;/g,
      (_, name) => each(m, k, (i, j) => `var ${name}_${i}_${j}: subgroup_matrix_left<f16, 8, 8>;`),
    )
    .replace(
      /((?:let |var )?)(\w+) = subgroupMatrixLoad<subgroup_matrix_(left|right|result)<(\w+)[^>]*>, (\w+)>\(&(\w+), (.+), (\d+u)\);/g,
      (_, keyword, name, role: keyof typeof sizes, type, major, array, offset, stride) =>
        each(
          sizes[role][0],
          sizes[role][1],
          (i, j) =>
            `${keyword}${name}_${i}_${j} = subgroupMatrixLoad<subgroup_matrix_${role}<${type}, 8, 8>, ${major}>(&${array}, ${
              partAt(offset, major, stride, i, j)
            }, ${stride});`,
        ),
    )
    .replace(
      /subgroupMatrixStore<row_major>\(&(\w+), (.+), (\w+), (\d+u)\);/g,
      (_, array, offset, name, stride) =>
        each(
          m,
          n,
          (i, j) =>
            `subgroupMatrixStore<row_major>(&${array}, ${
              partAt(offset, "row_major", stride, i, j)
            }, ${name}_${i}_${j}, ${stride});`,
        ),
    )
    .replace(
      /(\w+) = subgroupMatrixMultiplyAccumulate\((\w+), (\w+), \1\);/g,
      (_, sum, left, right) =>
        each(
          m,
          n,
          (i, j) =>
            Array.from({ length: k / SIDE }, (_, q) =>
              `${sum}_${i}_${j} = subgroupMatrixMultiplyAccumulate(${left}_${i}_${q}, ${right}_${q}_${j}, ${sum}_${i}_${j});`)
              .join("\n"),
        ),
    );
}

/** The launch with its text rewritten. */
export function lowered(launch: Launch, unit: { m: number; n: number; k: number }): Launch {
  const { kernel } = launch;
  const { features, buffers, params } = kernel;
  const code = lowerUnits(kernel.code, unit);
  return {
    ...launch,
    kernel: { ...kernel, key: `lowered ${kernel.key}`, code, features, buffers, params },
  };
}
