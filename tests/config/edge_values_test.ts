/** What unusual words in a config mean, and which keys a continued run may change in silence. */
import assert from "node:assert/strict";
import { requireResumable } from "../../lib/config/compare.ts";
import { parseConfig, type TrainConfig } from "../../lib/config/config.ts";
import { properties } from "../../lib/config/schema.ts";
import { UserErrors } from "../../lib/errors.ts";

const minimal = "model: 2b\noutput_dir: out\n";

function problemsOf(text: string): string {
  try {
    parseConfig(text);
  } catch (error) {
    if (error instanceof UserErrors) return error.problems.join("\n");
    throw error;
  }
  return "";
}

Deno.test("aliases of YAML are refused, however harmless", () => {
  assert.match(problemsOf(`${minimal}rank: &r 8\nlora_alpha: *r\n`), /config:4:13 aliases are not allowed/);
});

Deno.test("spaces, dollars and percent signs of a path are its own, and quotes are those of YAML", () => {
  const read = (path: string) =>
    parseConfig(`model: 2b\noutput_dir: out\ndata_root: ${path}\n`, { fileName: "/some where/c.yaml" }).data_root;
  const paths: readonly (readonly [string, string])[] = [
    ["my clips", "/some where/my clips"],
    ["'my clips '", "/some where/my clips "],
    ["$HOME/clips", "/some where/$HOME/clips"],
    ["${HOME}/clips", "/some where/${HOME}/clips"],
    ["'%USERPROFILE%/clips'", "/some where/%USERPROFILE%/clips"],
    ["a/../b/./c//d", "/some where/b/c/d"],
    ["~clips", "/some where/~clips"],
    ["/abs olute/clips/", "/abs olute/clips"],
  ];
  for (const [written, meant] of paths) assert.equal(read(written), meant, written);
  const overrides = { data_root: "my clips/$HOME" };
  assert.equal(parseConfig(minimal, { overrides }).data_root, `${Deno.cwd()}/my clips/$HOME`);
});

Deno.test("null unsets a key of a preset, in a file and on the command line", () => {
  const preset = { text: `${minimal}max_grad_norm: 5\nsnr_gamma: 2\n`, fileName: "preset" };
  const read = (text: string, overrides = {}) => parseConfig(text, { preset, overrides });
  const { max_grad_norm, snr_gamma } = parseConfig(minimal);
  for (
    const config of [read("max_grad_norm: null\nsnr_gamma:"), read("", { max_grad_norm: "null", snr_gamma: null })]
  ) {
    assert.deepEqual([config.max_grad_norm, config.snr_gamma], [max_grad_norm, snr_gamma]);
  }
  assert.deepEqual([read("").max_grad_norm, read("").snr_gamma], [5, 2]);
});

Deno.test("what random clips cannot be used for is refused key by key", () => {
  const keys = ["do_validation: true", "heldout_root: x", "init_lora: y", "push_to_hub: owner/name"];
  for (const text of keys) {
    const key = text.split(":")[0]!;
    const problems = problemsOf(`random_weights: true\nmodel: 5b\n${text}\n`);
    assert.match(problems, new RegExp(`${key}: .*leaves nothing to encode with`));
  }
});

/** Keys that say how or where a run works; everything else changes what it computes. */
const SILENT: ReadonlySet<string> = new Set([
  ...["output_dir", "cache_dir", "report_to", "log_every", "checkpointing_steps", "checkpointing_limit", "keep_best"],
  ...["resume_from_checkpoint", "init_lora", "push_to_hub", "engine", "tune", "profile", "dry_run"],
  ...["gpu_memory", "gradient_checkpointing", "keep", "offload_activations", "offload_optimizer"],
]);

Deno.test("a continued run names every setting that was changed and that changes what it computes", () => {
  const saved = parseConfig(minimal);
  for (const key of Object.keys(properties)) {
    const current = { ...saved, [key]: "something else" } as unknown as TrainConfig;
    let lines: readonly string[];
    try {
      lines = requireResumable(saved, current);
    } catch (error) {
      if (!(error instanceof UserErrors)) throw error;
      lines = error.problems;
    }
    const expected = SILENT.has(key) ? [] : [`${key}: `];
    assert.deepEqual(lines.map((line) => line.slice(0, key.length + 2)), expected, key);
  }
});
