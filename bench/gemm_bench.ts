/** `deno bench bench/gemm_bench.ts`: matrix products in every layout and storage. */
import type { DType } from "../kernels/core/kernel.ts";
import { gemmEntry } from "./entries/gemm.ts";
import { benchLaunches } from "./suite.ts";

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
    STORAGE.map((dtype) => gemmEntry({ group: `gemm ${layout} ${n}`, name: dtype, layout, dtype, m: n, n, k: n }))
  )
);

const thin = THIN.map(({ name, layout, m, n, k }) =>
  gemmEntry({ group: name, name: `${layout} bf16 ${m}x${n}x${k}`, layout, dtype: "bf16", m, n, k })
);

await benchLaunches([...square, ...thin]);
