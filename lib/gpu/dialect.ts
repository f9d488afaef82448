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
 * With any absolute path it looks, finds none and is silent.
 */
const quietWayland = ["XDG_RUNTIME_DIR", "/nonexistent"] as const;

/**
 * Deno looks for an OpenGL driver beside the Vulkan one unless told otherwise. No kernel runs on it, and unloading
 * Mesa's at the end of a thread corrupted the heap: of 25 processes with four threads and a device each, 2 crashed
 * after their work (Mesa 22.3), without OpenGL 0 of 145. And a broken Vulkan driver is an error, no silent change.
 */
const withoutOpenGl = ["DENO_WEBGPU_BACKEND", "vulkan"] as const;

/**
 * Sets a variable that has no value. Nothing is done where it may not be touched: a question about a permission would
 * be worse.
 */
function setIfUnset([variable, value]: readonly [string, string]): void {
  const allowed = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  if (allowed && !Deno.env.get(variable)) Deno.env.set(variable, value);
}

/** Opens an engine; Dawn is loaded only when asked for. */
export async function openDialect(engine: Engine): Promise<Dialect> {
  setIfUnset(quietWayland);
  const f16 = "enable f16;\n";
  if (engine === "deno") {
    if (Deno.build.os === "linux") setIfUnset(withoutOpenGl);
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
