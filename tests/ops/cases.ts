/** Every op of the transformer with odd shapes and narrow storage: what tests check and benchmarks can time. */
import { linearCases } from "./cases_linear.ts";
import { normCases } from "./cases_norm.ts";
import { rowCases } from "./cases_rows.ts";
import { videoCases } from "./cases_video.ts";
import type { OpCase } from "./op_case.ts";

/** Ops with a backward pass. */
export const trainedCases: readonly OpCase[] = [...linearCases, ...normCases, ...rowCases];

/** All, the frozen ones of the autoencoder included. */
export const opCases: readonly OpCase[] = [...trainedCases, ...videoCases];
