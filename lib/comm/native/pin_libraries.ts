/** Keeps loaded libraries in memory until the process ends. */
import { cString } from "./libc.ts";

const RTLD_LAZY = 1;
const RTLD_NOLOAD = 4;
const RTLD_NODELETE = 0x1000;

/**
 * Marks every loaded library as never to be unloaded. Open MPI unloads its parts when it is finalised, although threads
 * of the runtime's pool that ran its calls still have functions of those parts to run when they end: a fault at exit.
 * Needs permission to read /proc/self/maps.
 */
export function pinLibraries(): void {
  const library = Deno.dlopen("libc.so.6", { dlopen: { parameters: ["buffer", "i32"], result: "pointer" } });
  const maps = Deno.readTextFileSync("/proc/self/maps");
  const paths = new Set(Array.from(maps.matchAll(/\s(\/\S+\.so[\d.]*)$/gm), ([, path]) => path!));
  for (const path of paths) library.symbols.dlopen(cString(path), RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}
