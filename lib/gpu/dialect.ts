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

/**
 * Both engines look for a Wayland screen, whose library prints an error where this variable is unset, as on servers.
 * With any absolute path it looks, finds none and is silent. Nothing is done where the variable may not be touched:
 * a question about a permission would be worse than that line.
 */
function quietWayland(): void {
  const variable = "XDG_RUNTIME_DIR";
  const allowed = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  if (allowed && !Deno.env.get(variable)) Deno.env.set(variable, "/nonexistent");
}

/** Opens an engine; Dawn is loaded only when asked for. */
export async function openDialect(engine: Engine): Promise<Dialect> {
  quietWayland();
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
