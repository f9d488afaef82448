/** Commands that people paste. */
import { fileURLToPath } from "node:url";
import { shortPath } from "./short_path.ts";

/** A word as a shell reads it back. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** How this program is started: as `deno run -A mod.ts`, with the path or the address that it was loaded from. */
export function programCall(): string {
  return `deno run -A ${quoted(programPlace())}`;
}

function programPlace(): string {
  const program = new URL(import.meta.resolve("../../../mod.ts"));
  if (program.protocol !== "file:") return program.href;
  try {
    return shortPath(fileURLToPath(program));
  } catch (error) {
    // Without the permission to know the current folder.
    if (error instanceof Deno.errors.NotCapable) return "mod.ts";
    throw error;
  }
}
