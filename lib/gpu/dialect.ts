/** How the WebGPU engines differ: Deno's own (wgpu and naga), and Dawn (with Tint) through the npm package `webgpu`. */
import type { WgslFeature } from "../../kernels/core/kernel.ts";
import { loadDawn } from "./dawn.ts";

/** `deno` is `navigator.gpu`; `dawn` is the optional npm package `webgpu`. */
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

/** Opens an engine; Dawn is loaded only when asked for. */
export async function openDialect(engine: Engine): Promise<Dialect> {
  const f16 = "enable f16;\n";
  if (engine === "deno") {
    return {
      engine,
      gpu: navigator.gpu,
      directives: { f16, subgroups: "", subgroup_matrix: "" },
      hidesSubgroups: true,
    };
  }
  const subgroups = "enable subgroups;\n";
  const subgroup_matrix = "enable chromium_experimental_subgroup_matrix;\n";
  return { engine, gpu: await loadDawn(), directives: { f16, subgroups, subgroup_matrix }, hidesSubgroups: false };
}
