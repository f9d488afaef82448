/**
 * Bugs put into copies of the program on purpose: each must make one of the tests named with it fail.
 * Run: deno run -A tests/reliability/seeded_bugs.ts [WORD...]     (only bugs whose name holds one of the words)
 */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromFileUrl } from "../paths.ts";
import { Results } from "./results.ts";

/** A bug: in `file`, `from` becomes `to`, which `tests` must notice. */
interface Bug {
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly tests: string;
}

const files = "tests/io/atomic_test.ts tests/io/commit_folder_test.ts tests/io/power_loss_test.ts";
const headers = "tests/io/safetensors/safetensors_test.ts";
const cache = "tests/data/cache/cache_test.ts";

/** All bugs, by what is wrong. */
export const bugs: Readonly<Record<string, Bug>> = {
  "fsync of files dropped": {
    file: "lib/io/atomic.ts",
    from: "    this.#operations.sync(descriptor);\n",
    to: "",
    tests: files,
  },
  "fsync of the folder of a file dropped": {
    file: "lib/io/atomic.ts",
    from: "    operations.syncPath(dirname(path));\n",
    to: "",
    tests: files,
  },
  "fsync of the parent of a checkpoint dropped": {
    file: "lib/io/commit_folder.ts",
    from: "    operations.syncPath(dirname(path));\n",
    to: "",
    tests: files,
  },
  "short writes taken for whole ones": {
    file: "lib/io/atomic.ts",
    from: "      at += count;\n",
    to: "      at += Math.min(2 ** 30, bytes.length);\n",
    tests: files,
  },
  "checkpoints deleted in place": {
    file: "lib/io/checkpoints.ts",
    from: "      operations.rename(path, trash);\n      operations.remove(trash);\n",
    to: "      operations.remove(path);\n",
    tests: "tests/io/checkpoints_test.ts",
  },
  "damaged checkpoints counted as good": {
    file: "lib/io/checkpoints.ts",
    from: "if (problems.length === 0) good.push(checkpoint);",
    to: "good.push(checkpoint);",
    tests: "tests/io/checkpoints_test.ts",
  },
  "hashes of a checkpoint not compared": {
    file: "lib/io/commit_folder.ts",
    from: "if (found !== sha256) problems",
    to: "if (found === undefined) problems",
    tests: files,
  },
  "manifests may leave the folder": {
    file: "lib/io/commit_folder.ts",
    from: '|| part === "..")',
    to: ")",
    tests: files,
  },
  "lock not asked for": {
    file: "lib/io/lock.ts",
    from: "if (!file.tryLockSync(true)) {",
    to: "if (file.tryLockSync(true) === undefined) {",
    tests: "tests/io/lock_test.ts",
  },
  "duplicate tensors taken": {
    file: "lib/io/json_scanner.ts",
    from: "if (!seen.add(key)) this.fail",
    to: "if (seen.add(key) === undefined) this.fail",
    tests: headers,
  },
  "nesting without limit": {
    file: "lib/io/json_scanner.ts",
    from: "const maxDepth = 32;",
    to: "const maxDepth = 1e9;",
    tests: headers,
  },
  "exponents taken for integers": {
    file: "lib/io/json_scanner.ts",
    from: "/[\\s,\\]}]/.test(",
    to: "/[\\s,\\]}e.]/.test(",
    tests: headers,
  },
  "overlaps of tensors taken": {
    file: "lib/io/safetensors/header.ts",
    from: "if (span.begin !== end) {",
    to: "if (span.begin > end) {",
    tests: headers,
  },
  "bf16 rounded half up": {
    file: "lib/io/safetensors/half.ts",
    from: "word + 0x7fff + ((word >>> 16) & 1)",
    to: "word + 0x8000",
    tests: "tests/io/safetensors/half_test.ts",
  },
  "content of cache entries not compared": {
    file: "lib/data/cache/cache.ts",
    from: 'if (payloadHash(tensor) !== metadata.get("sha256"))',
    to: "if (payloadHash(tensor) === undefined)",
    tests: cache,
  },
  "NaN stored in the cache": {
    file: "lib/data/cache/cache.ts",
    from: "if (bad >= 0) {",
    to: "if (bad >= data.length) {",
    tests: cache,
  },
  "names of entries without the kind": {
    file: "lib/data/cache/key.ts",
    from: "[CACHE_VERSION, request.kind, fields]",
    to: "[CACHE_VERSION, fields]",
    tests: cache,
  },
  "names of entries without the VAE": {
    file: "lib/train/data/prepare_data.ts",
    from: "vae: await hashes.files(model.vaeFiles), ",
    to: "",
    tests: "tests/train/data/cache_changes_test.ts",
  },
  "names of entries without the token limit": {
    file: "lib/train/data/prepare_data.ts",
    from: "      tokens: model.transformer.max_text_seq_length,\n",
    to: "",
    tests: "tests/train/data/cache_changes_test.ts",
  },
  "warm-up one step early": {
    file: "lib/optim/learning_rate.ts",
    from: "return step / Math.max(1, warmupSteps)",
    to: "return (step + 1) / Math.max(1, warmupSteps)",
    tests: "tests/optim/learning_rate_test.ts",
  },
  "cosine over twice the steps": {
    file: "lib/optim/learning_rate.ts",
    from: "return halfCosine(progress);",
    to: "return halfCosine(progress / 2);",
    tests: "tests/optim/learning_rate_test.ts",
  },
  "learning rate too high by a thousandth": {
    file: "kernels/optimizer/adam.ts",
    from: "    learningRate / (1 - beta1 ** step),\n",
    to: "    1.001 * learningRate / (1 - beta1 ** step),\n",
    tests: "tests/kernels/optimizer/adam_test.ts",
  },
  "bias correction off by one step": {
    file: "kernels/optimizer/adam.ts",
    from: "1 / Math.sqrt(1 - beta2 ** step)",
    to: "1 / Math.sqrt(1 - beta2 ** (step + 1))",
    tests: "tests/kernels/optimizer/adam_test.ts",
  },
  "NaN looked for by comparison": {
    file: "kernels/core/wgsl.ts",
    from: "any((bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u))",
    to: "any(v != v)",
    tests: "tests/kernels/optimizer/adam_test.ts tests/step/poison_test.ts",
  },
  "later frame on a tie": {
    file: "lib/data/video/frames.ts",
    from: "< distance(frame) - tolerance",
    to: "<= distance(frame) + tolerance",
    tests: "tests/data/video/frames_test.ts",
  },
};

/** What became of a bug. */
interface Caught {
  readonly bug: string;
  readonly caught: boolean;
}

/** A copy of the repository in which only the files of git are. */
function copyOf(root: string): string {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-bugs-"));
  const listed = new Deno.Command("git", { args: ["ls-files", "-co", "--exclude-standard"], cwd: root }).outputSync();
  for (const name of new TextDecoder().decode(listed.stdout).trim().split("\n")) {
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  return folder;
}

/** Tries the bugs that earlier starts have not; returns those that no test noticed. */
export function seedBugs(names: readonly string[], print: (line: string) => void): string[] {
  const results = new Results<Caught>("seeded_bugs");
  const folder = copyOf(fromFileUrl("../..", import.meta.url));
  try {
    for (const name of names.filter((name) => !results.all.some(({ bug }) => bug === name))) {
      const { file, from, to, tests } = bugs[name]!;
      const path = join(folder, file), sound = readFileSync(path, "utf8");
      assert.equal(sound.split(from).length, 2, `${name}: ${file} must hold the text once`);
      writeFileSync(path, sound.replace(from, () => to));
      const { success } = new Deno.Command(Deno.execPath(), {
        args: ["test", "--allow-all", "--no-check", "--fail-fast", ...tests.split(" ")],
        cwd: folder,
        stdout: "null",
        stderr: "null",
      }).outputSync();
      writeFileSync(path, sound);
      results.add({ bug: name, caught: !success });
      print(`${success ? "MISSED" : "caught"}: ${name}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const tried = results.all.filter(({ bug }) => names.includes(bug));
  print(`${tried.filter(({ caught }) => caught).length} of ${tried.length} bugs caught`);
  return tried.filter(({ caught }) => !caught).map(({ bug }) => bug);
}

if (import.meta.main) {
  const names = Object.keys(bugs).filter((name) => Deno.args.length === 0 || Deno.args.some((w) => name.includes(w)));
  // deno-lint-ignore no-console
  if (seedBugs(names, (line) => console.log(line)).length > 0) Deno.exit(1);
}
