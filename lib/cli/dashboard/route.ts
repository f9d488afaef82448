/** `cogtune dashboard`: the pages of runs in a browser, or a comparison of them in one file. */
import { existsSync, statSync } from "node:fs";
import { buildCommand, type Command } from "@stricli/core";
import { UserError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { renderHtml } from "../../io/html_page.ts";
import type { CliContext } from "../context.ts";
import { describedCommand } from "../help/examples.ts";
import type { Environment } from "../machine/environment.ts";
import { withSignals } from "../machine/signals.ts";
import { comparePage, compareRuns, movedTo } from "./compare.ts";
import { RunFolder } from "./runs.ts";

interface DashboardFlags {
  readonly port?: number;
  readonly out?: string;
}

/**
 * A port as people write it.
 *
 * @throws {UserError} for what is none.
 */
export function parsePort(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) < 65536) return Number(text);
  throw new UserError(`"${text}" is no port`, "give a number from 0 to 65535; 0 takes any that is free");
}

function openRuns(folder: string): RunFolder {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    throw new UserError(`"${folder}" is no folder`, "give the output_dir of a run, or the folder that holds several");
  }
  const runs = new RunFolder(folder);
  if (runs.runs().length > 0) return runs;
  throw new UserError(
    `There is no run in "${folder}": neither it nor a folder in it has the index.html of a run`,
    "give the output_dir of a run, or the folder that holds several, such as runs; a run has its page from the first " +
      "step on",
  );
}

async function dashboardCommand(
  { terminal, signals, commands }: Environment,
  folder: string,
  { port, out }: DashboardFlags,
): Promise<number> {
  const found = openRuns(folder);
  if (out !== undefined) {
    if (port !== undefined) throw new UserError("--out writes a file, --port serves", "give one of them");
    const comparison = compareRuns(folder, found.runs());
    await writeFileAtomic(out, renderHtml(comparePage(movedTo(out, folder, comparison))));
    terminal.write(`Compared ${comparison.runs.map(({ name }) => name).join(", ")}: ${out}\n`);
    return 0;
  }
  const ended = Promise.withResolvers<void>();
  await using dashboard = await commands.serve(folder, port);
  terminal.write(`Dashboard: ${dashboard.address} (this machine only; Ctrl-C ends it)\n`);
  const code = await withSignals(signals, (signal) => {
    signal.addEventListener("abort", () => ended.resolve());
    return ended.promise;
  }, () => terminal.write("\n"));
  return code === 130 ? 0 : code;
}

/** The command. */
export const dashboard: Command<CliContext> = buildCommand<DashboardFlags, [string], CliContext>({
  async func(flags, folder) {
    this.exitWith(await dashboardCommand(this.environment, folder, flags));
  },
  parameters: {
    positional: {
      kind: "tuple",
      parameters: [{ brief: "Output folder of a run, or the folder of several", parse: String, placeholder: "folder" }],
    },
    flags: {
      port: {
        kind: "parsed",
        parse: parsePort,
        brief: "Port to serve on (8642)",
        optional: true,
        placeholder: "number",
      },
      out: {
        kind: "parsed",
        parse: String,
        brief: "Write the comparison to a file instead",
        optional: true,
        placeholder: "compare.html",
      },
    },
  },
  docs: describedCommand("dashboard", "Look at runs in a browser, or compare them in one file", [
    "Serves the page of a run, or a comparison of all runs in a folder, at an address of this machine that no other " +
    "machine reaches. Pages follow runs that go on. With --out, writes the comparison to one file.",
  ]),
});
