/** `cogtune config import`: another trainer's config or command line as one of this program. */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { buildCommand, type Command } from "@stricli/core";
import { importConfig, writeImported } from "../../config/import/import_config.ts";
import { readForeign } from "../../config/import/read_foreign.ts";
import { TRAINERS } from "../../config/import/trainers.ts";
import { UserError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { fileError } from "../../io/file_operations.ts";
import type { CliContext } from "../context.ts";
import { describedCommand } from "../help/examples.ts";

/** What is imported: the text of a file, or the words themselves. */
function textOf(given: string): { readonly text: string; readonly name: string; readonly folder: string } {
  const isCommand = /\s/.test(given) && !existsSync(given);
  if (isCommand) return { text: given, name: "the command line", folder: resolve(".") };
  try {
    return { text: readFileSync(given, "utf8"), name: basename(given), folder: dirname(resolve(given)) };
  } catch (error) {
    throw fileError(error, "read", given);
  }
}

/** The command. */
export const configImport: Command<CliContext> = buildCommand<{ readonly to?: string }, [string], CliContext>({
  async func({ to }, given) {
    const { terminal } = this.environment;
    const { text, name, folder } = textOf(given);
    const imported = importConfig(readForeign(text, name, folder));
    const yaml = writeImported(imported, name);
    if (to === undefined) {
      terminal.write(yaml);
      return;
    }
    if (existsSync(to)) throw new UserError(`"${to}" exists already`, "give another name to --to");
    await writeFileAtomic(to, yaml);
    const { settings, left, trainer } = imported;
    terminal.status(
      `Read as ${trainer.name}: ${settings.size} settings taken over, ${left.length} left out; "${to}" says why\n`,
    );
  },
  parameters: {
    flags: {
      to: { kind: "parsed", parse: String, optional: true, brief: "File to write; printed without it" },
    },
    positional: {
      kind: "tuple",
      parameters: [{
        brief: "Script, YAML or TOML file, or a command line in quotes",
        parse: String,
        placeholder: "FILE",
      }],
    },
  },
  docs: describedCommand(
    "config import",
    "Turn another trainer's config or command line into a config of this program",
    [
      "Writes a commented YAML file: what each setting was, and what was left out and why. It reads",
      ...TRAINERS.map(({ name, title }) => `  ${name.padEnd(16)}${title}`),
    ],
  ),
});
