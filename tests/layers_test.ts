/**
 * Conventions are tested, not remembered: imports point one way and in no circle, files and folders stay small, nothing is
 * exported without a caller, names stay out of the wrong places.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fromFileUrl } from "./paths.ts";

const root = fromFileUrl("..", import.meta.url);

/** What each layer may import besides itself and the files of `lib/` itself. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  "": [],
  kernels: [],
  io: [],
  comm: ["io"],
  data: ["io"],
  plan: ["kernels"],
  ops: ["kernels", "plan"],
  gpu: ["kernels", "plan"],
  diffusion: [],
  models: ["kernels", "plan", "ops", "gpu", "io"],
  sample: ["kernels", "plan", "ops", "gpu", "io", "models", "diffusion", "data"],
  optim: ["kernels", "plan", "gpu", "models"],
  config: ["models", "optim", "data"],
  step: ["kernels", "plan", "ops", "gpu", "io", "models", "data", "comm", "config", "optim"],
  forecast: ["kernels", "plan", "gpu", "io", "models", "sample", "comm", "config", "step"],
  tune: ["kernels", "plan", "gpu", "io", "comm"],
  train: [
    ...["kernels", "plan", "gpu", "io", "models", "diffusion", "data", "comm", "sample"],
    ...["config", "optim", "step", "forecast", "tune"],
  ],
  cli: ["plan", "gpu", "io", "models", "data", "comm", "sample", "config", "forecast", "train", "tune"],
};

/** Longest file in lines; a longer one holds more than one idea. */
const LONGEST_FILE = 400;

/** Most files of one folder; a fuller one holds more than one subject. */
const FULLEST_FOLDER = 15;

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

const files = [...sources("kernels"), ...sources("lib")];

/** Text of a file without its comments. */
function codeOf(path: string): string {
  return readFileSync(join(root, path), "utf8").replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, "");
}

const code = new Map(files.map((file) => [file, codeOf(file)]));

/** What callers of production code may be besides the files themselves: the public surface and the schema's writer. */
const outside = ["mod.ts", "configs/write_schema.ts"].map(codeOf);

/** Modules a file reaches: by static, type-only and dynamic imports, and as programs of workers and processes. */
function importsOf(file: string): string[] {
  return [...code.get(file)!.matchAll(/(?:\bfrom|\bimport|\bimport\(|\bnew URL\()\s*"([\w./]+\.ts)"/g)]
    .map(([, specifier]) => normalize(join(dirname(file), specifier!)));
}

/** `kernels`, the first folder below `lib`, or "" for what lies in `lib` itself and serves every layer. */
function layerOf(path: string): string {
  const [top, second] = path.split("/");
  return top === "kernels" ? top : second!.endsWith(".ts") ? "" : second!;
}

Deno.test("imports point one way", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const layer = layerOf(file);
    const allowed = ALLOWED[layer];
    assert.ok(allowed !== undefined, `${file} lies in a layer without rules`);
    for (const target of importsOf(file)) {
      assert.ok(code.has(target), `${file} imports ${target}, which is not part of kernels/ or lib/`);
      const other = layerOf(target);
      if (other !== layer && other !== "" && !allowed.includes(other)) wrong.push(`${file} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

Deno.test("no file imports itself by way of others, not even a type", () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    if (path.includes(file) || done.has(file)) return;
    for (const target of importsOf(file)) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  assert.deepEqual(circles, []);
});

/** How often every name occurs in production code. */
function countNames(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of [...code.values(), ...outside]) {
    for (const [name] of text.matchAll(/[A-Za-z_$][\w$]*/g)) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

Deno.test("every export and every method has a caller that is no test", () => {
  const counts = countNames();
  const unused: string[] = [];
  for (const [file, text] of code) {
    const exported = text.matchAll(/^export (?:async )?(?:function\*?|class|const|let|interface|type) (\w+)/gm);
    const methods = text.matchAll(/^ {2}(?:static |async |get |set |\*)*([a-z]\w*)(?:<[^>]*>)?\([^;{]*\)[^;{]*\{$/gm);
    for (const [, name] of [...exported, ...methods]) {
      if (name !== "constructor" && counts.get(name!)! < 2) unused.push(`${file}: ${name}`);
    }
  }
  assert.deepEqual(unused, []);
});

/** Where control characters are escaped, and where processes that this program starts write to it. */
const PRINTERS = ["lib/cli/machine/terminal.ts", "lib/comm/launch/report_line.ts"];

Deno.test("only lib/gpu requests a device, and only the terminal prints", () => {
  const wrong = files.filter((file) =>
    (/navigator\.gpu|requestDevice|createComputePipeline/.test(code.get(file)!) && layerOf(file) !== "gpu") ||
    (/console\.\w+\(|\bstd(out|err)\.write/.test(code.get(file)!) && !PRINTERS.includes(file))
  );
  assert.deepEqual(wrong, []);
});

Deno.test("one exported name means one type", () => {
  const names = [...code].flatMap(([file, text]) =>
    [...text.matchAll(/^export (?:interface|type|class) (\w+)/gm)].map(([, name]) => ({ name: name!, file }))
  );
  const shared = [...Map.groupBy(names, ({ name }) => name)].filter(([, places]) => places.length > 1);
  assert.deepEqual(shared.map(([name, places]) => `${name}: ${places.map(({ file }) => file).join(", ")}`), []);
});

Deno.test("every file says what it is for", () => {
  const silent = files.filter((file) => !/^\/\*\*/.test(readFileSync(join(root, file), "utf8")));
  assert.deepEqual(silent, []);
});

Deno.test("comments keep to the width that the formatter keeps code to", () => {
  // Made by programs: a digest and a type that are what they are.
  const made = ["lib/comm/exchange/adder_wasm.ts", "lib/config/record.ts"];
  const wide = files.filter((file) => !made.includes(file)).flatMap((file) => {
    const lines = readFileSync(join(root, file), "utf8").split("\n");
    return lines.filter((line) => line.length > 120 && /^\s*(\*|\/\/|\/\*)/.test(line)).map(() => file);
  });
  assert.deepEqual(wide, []);
});

Deno.test("no file is longer than 400 lines, no folder holds more than 15 files", () => {
  const long = files.filter((file) => readFileSync(join(root, file), "utf8").split("\n").length > LONGEST_FILE + 1);
  assert.deepEqual(long, []);
  const folders = Map.groupBy(files, dirname);
  const full = [...folders].filter(([, held]) => held.length > FULLEST_FOLDER).map(([folder]) => folder);
  assert.deepEqual(full, []);
});
