/**
 * Branch coverage of `lib/`: runs tests and prints every branch that none of them took and the share of each folder.
 * Run: deno task coverage [TESTS...] [--of=FOLDER]
 *
 * Child processes count, workers do not, nor do processes that are killed or leave by `_exit`, as ranks do: what only
 * they execute is listed although it was taken.
 */
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { fromFileUrl } from "./paths.ts";

const root = fromFileUrl("..", import.meta.url);

async function deno(args: readonly string[], env: Readonly<Record<string, string>>, stdout: "inherit" | "piped") {
  const output = await new Deno.Command(Deno.execPath(), { args: [...args], cwd: root, env, stdout, stderr: "inherit" })
    .output();
  if (!output.success) throw new Error(`deno ${args.join(" ")} ended with code ${output.code}`);
  return stdout === "piped" ? new TextDecoder().decode(output.stdout) : "";
}

/** Branches of a file: how many there are, and the lines of those not taken. */
interface Covered {
  readonly file: string;
  readonly branches: number;
  readonly missed: readonly number[];
}

/** Reads the records of the LCOV format, of which `BRDA:line,block,branch,count` is a branch. */
function readLcov(text: string): Covered[] {
  return text.split("end_of_record").flatMap((record) => {
    const file = /^SF:(.*)$/m.exec(record)?.[1];
    if (file === undefined) return [];
    const branches = [...record.matchAll(/^BRDA:(\d+),\d+,\d+,(\d+|-)$/gm)];
    const missed = branches.filter(([, , count]) => !(Number(count) > 0)).map(([, line]) => Number(line));
    return [{ file, branches: branches.length, missed }];
  });
}

function share(files: readonly Covered[]): string {
  const total = files.reduce((sum, { branches }) => sum + branches, 0);
  const missed = files.reduce((sum, file) => sum + file.missed.length, 0);
  const percent = total === 0 ? 100 : 100 * (total - missed) / total;
  return `${percent.toFixed(1).padStart(5)} %  ${total - missed} of ${total}`;
}

const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

const { values, positionals } = parseArgs({ allowPositionals: true, options: { of: { type: "string" } } });
const { of = "lib/" } = values;
const folder = Deno.makeTempDirSync({ prefix: "cogtune-coverage-" });
try {
  const tests = positionals.length === 0 ? ["tests/"] : positionals;
  const env = { DENO_COVERAGE_DIR: folder, LP_NUM_THREADS: "0" };
  await deno(["test", "-A", "--coverage-raw-data-only", ...tests], env, "inherit");
  const files = readLcov(await deno(["coverage", folder, "--lcov", `--include=${join(root, of)}`], {}, "piped"));
  for (const { file, missed } of files) {
    const lines = readFileSync(file, "utf8").split("\n");
    for (const line of new Set(missed)) print(`${relative(root, file)}:${line}: ${lines[line - 1]!.trim()}`);
  }
  const folders = Map.groupBy(files, ({ file }) => relative(root, dirname(file)));
  for (const [name, inside] of [...folders].sort()) print(`${name.padEnd(30)} ${share(inside)}`);
  print(`${"all".padEnd(30)} ${share(files)}`);
} finally {
  Deno.removeSync(folder, { recursive: true });
}
