/** The only file that knows which WebGPU engine runs: Deno's own (wgpu and naga) or Dawn through the npm package `webgpu`. */
import { UserError } from "../errors.ts";

/** Which engine: `deno` is `navigator.gpu`; `dawn` is the optional npm package `webgpu`. */
export type Engine = "deno" | "dawn";

/** How one engine is reached and what its WGSL wants. */
export interface Dialect {
  readonly engine: Engine;
  readonly gpu: GPU;
  /** Text put in front of a shader that uses subgroups: Tint demands the directive that naga rejects. */
  readonly subgroupDirective: string;
  /** Whether `requestDevice` accepts `subgroups` although `adapter.features` does not list it (Deno 2.9). */
  readonly hidesSubgroups: boolean;
}

/** Opens an engine. Dawn is imported only when asked for, because it is an optional dependency. */
export async function openDialect(engine: Engine = "deno"): Promise<Dialect> {
  if (engine === "deno") {
    return { engine, gpu: navigator.gpu, subgroupDirective: "", hidesSubgroups: true };
  }
  const specifier = "npm:webgpu@0.6.2";
  try {
    const dawn: { create(flags: string[]): GPU } = await import(specifier);
    return { engine, gpu: dawn.create([]), subgroupDirective: "enable subgroups;\n", hidesSubgroups: false };
  } catch (error) {
    throw new UserError(
      `Cannot load the dawn engine (${specifier}): ${error instanceof Error ? error.message : error}`,
      "install it with `deno add npm:webgpu@0.6.2`, or leave engine at its default `deno`",
    );
  }
}
