/** The only file that knows which WebGPU engine runs: Deno's own (wgpu and naga) or Dawn through the npm package `webgpu`. */
import type { WgslFeature } from "../../kernels/core/kernel.ts";
import { loadDawn } from "./dawn.ts";
import { UserError } from "../errors.ts";

/** Which engine: `deno` is `navigator.gpu`; `dawn` is the optional npm package `webgpu`. */
export type Engine = "deno" | "dawn";

/** How one engine is reached and what its WGSL wants. */
export interface Dialect {
  readonly engine: Engine;
  readonly gpu: GPU;
  /** Text put in front of a shader, by what it uses: Tint demands a directive for subgroups that naga rejects. */
  readonly directives: Readonly<Record<WgslFeature, string>>;
  /** Whether `requestDevice` accepts `subgroups` although `adapter.features` does not list it (Deno 2.9). */
  readonly hidesSubgroups: boolean;
}

/** Dawn hides its experimental features, matrix units among them, without this one. */
const FLAGS = ["enable-dawn-features=allow_unsafe_apis"];

/** Opens an engine. Dawn is imported only when asked for, because it is an optional dependency. */
export async function openDialect(engine: Engine = "deno"): Promise<Dialect> {
  if (engine === "deno") {
    const directives = { f16: "enable f16;\n", subgroups: "", subgroup_matrix: "" };
    return { engine, gpu: navigator.gpu, directives, hidesSubgroups: true };
  }
  const specifier = "npm:webgpu@0.6.2";
  try {
    const directives = {
      f16: "enable f16;\n",
      subgroups: "enable subgroups;\n",
      subgroup_matrix: "enable chromium_experimental_subgroup_matrix;\n",
    };
    return { engine, gpu: await loadDawn(FLAGS), directives, hidesSubgroups: false };
  } catch (error) {
    throw new UserError(
      `Cannot load the dawn engine (${specifier}): ${error instanceof Error ? error.message : error}`,
      "install it with `deno add npm:webgpu@0.6.2`, or leave engine at its default `deno`",
    );
  }
}
