/** Matrix products as benchmarks launch them. */
import { gemm } from "../../kernels/matrix/gemm.ts";
import type { Extent, Layout } from "../../kernels/matrix/gemm_shape.ts";
import type { DType } from "../../kernels/core/kernel.ts";
import { randomBytes } from "../harness.ts";
import type { Entry } from "../suite.ts";

/** A product with all three matrices in one storage type. */
export interface GemmCase extends Extent {
  readonly group: string;
  readonly name: string;
  readonly layout: Layout;
  readonly dtype: DType;
}

/** The launch of a product and what its operands hold. */
export function gemmEntry({ group, name, layout, dtype, m, n, k }: GemmCase): Entry {
  return {
    group,
    name,
    launch: (target) => gemm(target, { layout, a: dtype, b: dtype, c: dtype }, { m, n, k }),
    contents: () => ({ a: randomBytes(m * k, dtype), b: randomBytes(n * k, dtype), c: m * n }),
  };
}
