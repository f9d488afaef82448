/** Configs, commands, pages and records: what people write and see. */
import type { Bugs } from "./bug.ts";

const config = "tests/config/config_test.ts";
const edges = "tests/config/edge_values_test.ts";
const server = "tests/cli/dashboard/server_test.ts";
const terminal = "tests/cli/machine/terminal_test.ts";
const metrics = "tests/train/report/metrics_log_test.ts";

/** Bugs of `lib/config`, `lib/cli` and `lib/train/report`. */
export const programBugs: Bugs = {
  "files win over the command line": {
    file: "lib/config/config.ts",
    from: "file, overrides];",
    to: "overrides, file];",
    tests: config,
  },
  "paths of a file from the present folder": {
    file: "lib/config/config.ts",
    from: '(key) => entries.get(key)?.folder ?? "."',
    to: '(key) => key === "" ? key : "."',
    tests: config,
  },
  "alphas of patterns follow their rank first": {
    file: "lib/config/config.ts",
    from: "[...input.alpha_pattern, ...input.rank_pattern]",
    to: "[...input.rank_pattern, ...input.alpha_pattern]",
    tests: config,
  },
  "1.5 at the frame rate of 1.0": {
    file: "lib/config/config.ts",
    from: "namesVersion15(model_name) ? 16 : 8",
    to: "namesVersion15(model_name) ? 8 : 8",
    tests: config,
  },
  "continued runs begin a new folder": {
    file: "lib/config/config.ts",
    from: "resumed === undefined ? timestampedFolder(now) : dirname(resumed)",
    to: "resumed === '' ? dirname(resumed) : timestampedFolder(now)",
    tests: config,
  },
  "aliases of YAML expanded": {
    file: "lib/config/sources.ts",
    from:
      "  visit(document, { Alias: (_, node) => void problems.push(`${place(node.range?.[0])} aliases are not allowed`) });\n",
    to: "",
    tests: edges,
  },
  "null does not unset a key": {
    file: "lib/config/check.ts",
    from: '|| (entry.text && entry.value === "null")',
    to: "",
    tests: edges,
  },
  "seed may change when a run goes on": {
    file: "lib/config/compare.ts",
    from: '  "output_dir",\n  "report_to",',
    to: '  "output_dir",\n  "seed",\n  "report_to",',
    tests: edges,
  },
  "optimizer may change when a run goes on": {
    file: "lib/config/compare.ts",
    from: '  "optimizer",\n  "master_weights",',
    to: '  "master_weights",',
    tests: config,
  },
  "frames of any number": {
    file: "lib/config/rules.ts",
    from: "if ((frames - 1) % 8 !== 0) {",
    to: "if (frames % 1 !== 0) {",
    tests: config,
  },
  "averages of sharded weights promised": {
    file: "lib/config/rules.ts",
    from: '  if (config.ema_decay > 0) {\n    findings.error("ema_decay"',
    to: '  if (config.ema_decay > 1) {\n    findings.error("ema_decay"',
    tests: config,
  },
  "validation between checkpoints": {
    file: "lib/config/rules.ts",
    from: "steps % config.checkpointing_steps !== 0",
    to: "steps % 1 !== 0",
    tests: config,
  },
  "trained models of drawn runs pushed": {
    file: "lib/config/rules.ts",
    from: '["do_validation", "heldout_root", "init_lora", "push_to_hub"]',
    to: '["do_validation", "heldout_root", "init_lora"]',
    tests: edges,
  },
  "control characters reach the terminal": {
    file: "lib/cli/machine/terminal.ts",
    from: "    status: (text) => out(visible(text)),",
    to: "    status: (text) => out(text),",
    tests: terminal,
  },
  "invisible characters reach JSON raw": {
    file: "lib/cli/machine/terminal.ts",
    from: "out(`${visibleJson(JSON.stringify(value))}\\n`)",
    to: "out(`${JSON.stringify(value)}\\n`)",
    tests: terminal,
  },
  "the second signal waits like the first": {
    file: "lib/cli/machine/signals.ts",
    from: "    if (again) return source.exit(signalExitCodes[name]);\n",
    to: "",
    tests: "tests/cli/commands/train_command_test.ts",
    filter: "first signal",
  },
  "quotes of prompts end an attribute": {
    file: "lib/html.ts",
    from: "/[&<>\"']/g",
    to: "/[&<>]/g",
    tests: "tests/train/report/run_page_test.ts tests/sample/page_test.ts tests/io/html_page_test.ts",
  },
  "data of a page may end its script": {
    file: "lib/io/html_page.ts",
    from: '.replaceAll("<", "\\\\u003c")',
    to: "",
    tests: "tests/train/report/run_page_test.ts tests/sample/page_test.ts tests/io/html_page_test.ts",
  },
  "pages fetch from anywhere": {
    file: "lib/io/html_page.ts",
    from: "\"default-src 'none'\",",
    to: '"default-src *",',
    tests: "tests/train/report/run_page_test.ts tests/sample/page_test.ts tests/io/html_page_test.ts",
  },
  "other names of this machine answered": {
    file: "lib/cli/dashboard/server.ts",
    from: "(?::\\d+)?$/i.test(host)",
    to: "(?::\\d+)?/i.test(host)",
    tests: server,
  },
  "hidden files served": {
    file: "lib/cli/dashboard/server.ts",
    from: '!name.startsWith(".") && ',
    to: "",
    tests: server,
  },
  "paths on the server may climb": {
    file: "lib/cli/dashboard/server.ts",
    from: "pathInside(folder.root, join(folder.root, ...names))",
    to: "join(folder.root, ...names)",
    tests: server,
  },
  "last bytes of a file counted from its start": {
    file: "lib/cli/dashboard/media.ts",
    from: "[Math.max(0, size - Number(to)), size - 1]",
    to: "[0, Math.min(Number(to), size) - 1]",
    tests: server,
  },
  "ranges of another version answered": {
    file: "lib/cli/dashboard/media.ts",
    from: 'const isSame = [null, etag].includes(request.headers.get("if-range"));',
    to: "const isSame = true;",
    tests: server,
  },
  "records of steps made again kept": {
    file: "lib/train/report/metrics_log.ts",
    from: "    ftruncateSync(file, keptBytes(file, step, onKept));\n",
    to: "    keptBytes(file, step, onKept);\n",
    tests: metrics,
  },
  "record of the step resumed from lost": {
    file: "lib/train/report/metrics_log.ts",
    from: "record.step > step)",
    to: "record.step >= step)",
    tests: metrics,
  },
  "NaN in records is null": {
    file: "lib/train/report/metrics_log.ts",
    from: "&& !Number.isFinite(value) ? String(value) : value",
    to: "&& !Number.isFinite(value) ? null : value",
    tests: metrics,
  },
  "metrics not on disk before the checkpoint": {
    file: "lib/train/training_loop.ts",
    from: "    yield* await records?.sync() ?? [];\n",
    to: "",
    tests: "tests/train/report/synced_records_test.ts",
  },
  "TensorBoard drops the step resumed from": {
    file: "lib/train/report/tensorboard.ts",
    from: "options.resumeStep + 1)",
    to: "options.resumeStep)",
    tests: metrics,
  },
  "checksums of TensorBoard unmasked": {
    file: "lib/train/report/tensorboard.ts",
    from: "return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;",
    to: "return crc;",
    tests: metrics,
  },
  "records of the first attempt overwritten": {
    file: "lib/train/report/run_records.ts",
    from: "    if (step === 0) moveAside(path);\n",
    to: "",
    tests: "tests/train/checkpoint/resume_test.ts",
  },
  "losses of ranks in the places of the first": {
    file: "lib/train/report/gather_figures.ts",
    from: "losses.splice(own.begin, own.losses.length, ...own.losses);",
    to: "losses.splice(0, own.losses.length, ...own.losses);",
    tests: "tests/train/report/gather_figures_test.ts",
  },
  "work of the first bucket for all": {
    file: "lib/train/report/step_work.ts",
    from: "this.#micros[bucket]![key]",
    to: "this.#micros[0 * bucket]![key]",
    tests: "tests/train/report/step_work_test.ts",
  },
  "1023.9 MiB shown as 1.02e+3": {
    file: "lib/cli/show/text.ts",
    from: "value >= 1000 ? value.toFixed(0) : value.toPrecision(3)",
    to: "value.toPrecision(3)",
    tests: "tests/cli/commands/plan_report_test.ts tests/cli/machine/machine_test.ts tests/cli/show/text_test.ts",
  },
};
