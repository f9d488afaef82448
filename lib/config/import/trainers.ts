/** The trainers whose configs are imported, in the order in which they are tried; one more is a file and a line. */
import { cogkitConfig } from "./cogkit.ts";
import { diffusers } from "./diffusers.ts";
import { diffusionPipe } from "./diffusion_pipe.ts";
import { finetrainers } from "./finetrainers.ts";
import type { ForeignTrainer } from "./foreign.ts";
import { original } from "./original.ts";
import { videoxFun } from "./videox_fun.ts";

/** Every trainer. */
export const TRAINERS: readonly ForeignTrainer[] = [
  finetrainers,
  videoxFun,
  diffusers,
  original,
  cogkitConfig,
  diffusionPipe,
];
