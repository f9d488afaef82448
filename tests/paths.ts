import { fileURLToPath } from "node:url";

/** Absolute path of `relative` as seen from the module `base` (its `import.meta.url`). */
export function fromFileUrl(relative: string, base: string): string {
  return fileURLToPath(new URL(relative, base));
}
