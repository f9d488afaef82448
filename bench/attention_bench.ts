/** `deno bench bench/attention_bench.ts`: attention forward and backward, with the matrix product they are held against. */
import type { DType } from "../kernels/core/kernel.ts";
import { attentionEntries } from "./entries/attention.ts";
import { gemmEntry } from "./entries/gemm.ts";
import { benchLaunches } from "./suite.ts";

const HEADS = 2;
const SEQUENCES = [513, 1024];
const STORAGE = ["f32", "bf16"] as const satisfies readonly DType[];

const product = STORAGE.map((dtype) =>
  gemmEntry({ group: "gemm NT 768", name: dtype, layout: "NT", dtype, m: 768, n: 768, k: 768 })
);

await benchLaunches([
  ...product,
  ...SEQUENCES.flatMap((sequence) => STORAGE.flatMap((dtype) => attentionEntries(sequence, HEADS, dtype))),
]);
