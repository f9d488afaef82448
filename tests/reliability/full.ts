/**
 * The slow suites: every test file that has slow parts, with them, two files at a time. A file that has passed is not run again
 * by the next start, and the longest ones go on inside (see results.ts), so the whole may be stopped at any moment.
 * Run: deno run -A tests/reliability/full.ts [WORD...]     (only files whose path holds one of the words)
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fromFileUrl } from "../paths.ts";
import { Results, resultsFolder } from "./results.ts";

/** Files at a time: the machine of the time limit has two cores, and each file keeps one busy. */
const JOBS = 2;

/** One test file that was run to its end. */
interface Ran {
  readonly file: string;
  readonly passed: boolean;
  readonly seconds: number;
}

const root = fromFileUrl("../..", import.meta.url);

/** Test files with slow parts. */
function slowFiles(folder: string): string[] {
  return [...Deno.readDirSync(`${root}/${folder}`)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return slowFiles(path);
    const isSlow = name.endsWith("_test.ts") && readFileSync(`${root}/${path}`, "utf8").includes("COGTUNE_FULL");
    return isSlow ? [path] : [];
  }).sort();
}

/** Runs one file; what it prints lies beside the results. */
async function run(file: string): Promise<Ran> {
  const start = performance.now();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", file],
    cwd: root,
    env: { COGTUNE_FULL: "1", LP_NUM_THREADS: "0", NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout) + decoder.decode(stderr);
  writeFileSync(`${resultsFolder}/${file.replaceAll("/", "-")}.txt`, text);
  return { file, passed: success, seconds: (performance.now() - start) / 1000 };
}

/** Runs the files that have not passed; prints a line for each and returns those that failed. */
async function runAll(files: readonly string[], print: (line: string) => void): Promise<string[]> {
  const results = new Results<Ran>("full");
  const passed = (file: string) => results.all.some((ran) => ran.file === file && ran.passed);
  const left = files.filter((file) => !passed(file));
  const failed: string[] = [];
  const worker = async () => {
    for (let file = left.shift(); file !== undefined; file = left.shift()) {
      const ran = await run(file);
      results.add(ran);
      if (!ran.passed) failed.push(file);
      print(`${ran.passed ? "passed" : "FAILED"} ${file} (${(ran.seconds / 60).toFixed(1)} min)`);
    }
  };
  await Promise.all(Array.from({ length: JOBS }, worker));
  const minutes = results.all.reduce((sum, { seconds }) => sum + seconds, 0) / 60;
  print(
    `${results.all.length - failed.length} files passed, ${failed.length} failed, ${minutes.toFixed(0)} min of work`,
  );
  return failed;
}

const isChosen = (file: string) => Deno.args.length === 0 || Deno.args.some((word) => file.includes(word));
// deno-lint-ignore no-console
const failed = await runAll(slowFiles("tests").filter(isChosen), (line) => console.log(line));
if (failed.length > 0) Deno.exit(1);
