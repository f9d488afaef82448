/** Every op of the transformer with odd shapes and narrow storage: what tests check and benchmarks can time. */
import { plainTarget } from "../../kernels/core/kernel.ts";
import { linearCases } from "./cases_linear.ts";
import { normCases } from "./cases_norm.ts";
import { rowCases } from "./cases_rows.ts";
import { videoCases } from "./cases_video.ts";
import { type OpCase, recordForward } from "./op_case.ts";

/** Ops with a backward pass. */
const trainedCases: readonly OpCase[] = [...linearCases, ...normCases, ...rowCases];

/** All, the frozen ones of the autoencoder included. */
export const opCases: readonly OpCase[] = [...trainedCases, ...videoCases];

/** Cases that are f32 throughout and have something to pass a gradient to. */
export const differentiableCases: readonly OpCase[] = trainedCases.filter((description) => {
  const operands = Object.values(description.operands);
  const { output } = recordForward(description, plainTarget(0));
  return [output, ...operands].every(({ dtype = "f32" }) => dtype === "f32") &&
    operands.some(({ role }) => role === "input");
});
