/** Conventions are tested, not remembered: imports point one way, files stay small, names stay out of the wrong places. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fromFileUrl } from "./paths.ts";

const root = fromFileUrl("..", import.meta.url);

/** What every layer may import. */
const EVERYWHERE = ["errors", "rounding"];

/** What each layer may import besides itself and {@linkcode EVERYWHERE}. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  kernels: [],
  errors: [],
  rounding: [],
  io: [],
  comm: ["io"],
  data: ["io"],
  plan: ["kernels"],
  ops: ["kernels", "plan"],
  gpu: ["kernels", "plan"],
  diffusion: [],
  models: ["kernels", "plan", "ops", "gpu", "io"],
  sample: ["kernels", "plan", "ops", "gpu", "io", "models", "diffusion", "data"],
  config: ["models"],
  optim: ["kernels", "plan", "gpu", "models", "config"],
  step: ["kernels", "plan", "ops", "gpu", "io", "models", "data", "comm", "config", "optim"],
  forecast: ["kernels", "plan", "gpu", "io", "models", "sample", "comm", "config", "step"],
  train: [
    ...["kernels", "plan", "gpu", "io", "models", "diffusion", "data", "comm", "sample"],
    ...["config", "optim", "step", "forecast"],
  ],
  cli: ["plan", "gpu", "io", "models", "data", "comm", "sample", "config", "forecast", "train"],
};

/** Longest file in lines; a longer one holds more than one idea. */
const LONGEST_FILE = 400;

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

const files = [...sources("kernels"), ...sources("lib")];

/** `kernels`, or the first folder (or file) below `lib`. */
function layerOf(path: string): string {
  const [top, second] = path.split("/");
  return top === "lib" ? second!.replace(/\.ts$/, "") : top!;
}

Deno.test("imports point one way", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const layer = layerOf(file);
    const allowed = ALLOWED[layer];
    assert.ok(allowed !== undefined, `${file} lies in a layer without rules`);
    for (const [, specifier] of readFileSync(join(root, file), "utf8").matchAll(/from "(\.[^"]+)"/g)) {
      const target = relative(root, join(root, dirname(file), specifier!));
      const other = layerOf(target);
      if (!target.startsWith("lib/") && !target.startsWith("kernels/")) continue;
      if (other !== layer && !EVERYWHERE.includes(other) && !allowed.includes(other)) {
        wrong.push(`${file} imports ${target}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

Deno.test("only lib/gpu requests a device, and only lib/cli prints", () => {
  const wrong = files.filter((file) => {
    const text = readFileSync(join(root, file), "utf8");
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    return (/navigator\.gpu|requestDevice|createComputePipeline/.test(code) && layerOf(file) !== "gpu") ||
      (/console\.\w+\(/.test(code) && layerOf(file) !== "cli");
  });
  assert.deepEqual(wrong, []);
});

Deno.test("no file is longer than 400 lines", () => {
  const long = files.filter((file) => readFileSync(join(root, file), "utf8").split("\n").length > LONGEST_FILE + 1);
  assert.deepEqual(long, []);
});
