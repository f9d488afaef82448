/** `deno bench bench/gemm_bench.ts`: matrix products in every layout and storage. */
import { gemm } from "../kernels/matrix/gemm.ts";
import type { DType } from "../kernels/core/kernel.ts";
import { randomBytes } from "./harness.ts";
import { benchLaunches, type Entry } from "./suite.ts";

const LAYOUTS = ["NN", "NT", "TN"] as const;
const STORAGE = ["f32", "f16", "bf16"] as const satisfies readonly DType[];
const SIZES = [512, 1024];

/** Shapes that training runs besides large squares: adapters of rank 128 and modulation vectors. */
const THIN = [
  { name: "adapter down", layout: "NT", m: 1350, n: 128, k: 1920 },
  { name: "adapter up", layout: "NT", m: 1350, n: 1920, k: 128 },
  { name: "adapter gradient", layout: "TN", m: 128, n: 1920, k: 1350 },
  { name: "modulation", layout: "NT", m: 2, n: 11520, k: 512 },
] as const;

const square = SIZES.flatMap((n) =>
  LAYOUTS.flatMap((layout) =>
    STORAGE.map((dtype): Entry => ({
      group: `gemm ${layout} ${n}`,
      name: dtype,
      launch: (target) => gemm(target, { layout, a: dtype, b: dtype, c: dtype }, { m: n, n, k: n }),
      contents: () => ({ a: randomBytes(n * n, dtype), b: randomBytes(n * n, dtype), c: n * n }),
    }))
  )
);

const thin = THIN.map(({ name, layout, m, n, k }): Entry => ({
  group: name,
  name: `${layout} bf16 ${m}x${n}x${k}`,
  launch: (target) => gemm(target, { layout, a: "bf16", b: "bf16", c: "bf16" }, { m, n, k }),
  contents: () => ({ a: randomBytes(m * k, "bf16"), b: randomBytes(n * k, "bf16"), c: m * n }),
}));

await benchLaunches([...square, ...thin]);
