/** Files, checkpoints, locks and downloads. */
import type { Bugs } from "./bug.ts";

const files = "tests/io/atomic_test.ts tests/io/commit_folder_test.ts tests/io/power_loss_test.ts";
const headers = "tests/io/safetensors/safetensors_test.ts";
const downloads = "tests/io/download_test.ts";
const hub =
  "tests/models/folder/hub_test.ts tests/models/folder/hostile_hub_test.ts tests/models/folder/verified_test.ts";

/** Bugs of `lib/io` and of the hub. */
export const fileBugs: Bugs = {
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
  "checkpoints of later steps pruned": {
    file: "lib/io/checkpoints.ts",
    from: "checkpoint.step > committed.step) continue;",
    to: "checkpoint.step < 0) continue;",
    tests: "tests/io/checkpoints_test.ts",
  },
  "one checkpoint less kept than asked": {
    file: "lib/io/checkpoints.ts",
    from: "good.slice(limit)",
    to: "good.slice(Math.max(1, limit - 1))",
    tests: "tests/io/checkpoints_test.ts",
  },
  "what was being replaced thrown away": {
    file: "lib/io/checkpoints.ts",
    from: 'leftover.kind === "old" && !existsSync(original)',
    to: 'leftover.kind === "new"',
    tests: "tests/io/checkpoints_test.ts tests/io/power_loss_test.ts",
  },
  "pruned before the commit": {
    file: "lib/train/checkpoint/checkpoint.ts",
    from: "  const files = await commitFolder(",
    to: "  await pruneCheckpoints(outputDir, Math.max(1, limit - 1));\n  const files = await commitFolder(",
    tests: "tests/train/checkpoint/checkpoint_test.ts",
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
    from: "if (file.tryLockSync(true)) {",
    to: "if (file.tryLockSync(true) !== undefined) {",
    tests: "tests/io/lock_test.ts",
  },
  "lock of a removed folder kept": {
    file: "lib/io/lock.ts",
    from: "?.ino === file.statSync().ino) {",
    to: "?.ino !== -1) {",
    tests: "tests/train/faults/tampering_test.ts",
    filter: "removed while training",
  },
  "locks open to all users": {
    file: "lib/io/lock.ts",
    from: "export const lockMode = 0o600;",
    to: "export const lockMode = 0o666;",
    tests: "tests/train/faults/tampering_test.ts",
    filter: "their user alone",
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
  "tokens follow redirects": {
    file: "lib/io/http.ts",
    from: "...(target.origin === origin ? headers : {}),",
    to: "...headers,",
    tests: `${downloads} ${hub}`,
  },
  "next pages asked of other servers": {
    file: "lib/io/http.ts",
    from: "origin === new URL(url).origin;",
    to: "origin !== undefined;",
    tests: `${downloads} ${hub}`,
  },
  "redirects to unencrypted servers followed": {
    file: "lib/io/http.ts",
    from: 'if (target.protocol !== "https:" && target.protocol !== protocol) {',
    to: 'if (target.protocol === "ftp:") {',
    tests: `${downloads} ${hub}`,
  },
  "servers come back to before they asked": {
    file: "lib/io/http.ts",
    from: "Math.max(growing, error.pause ?? 0)",
    to: "growing",
    tests: downloads,
  },
  "stalled connections waited for": {
    file: "lib/io/http.ts",
    from: "      this.#bytes = 0;\n",
    to: "",
    tests: `${downloads} ${hub}`,
  },
  "compressed bytes kept as they come": {
    file: "lib/io/http.ts",
    from: "(this.isCompressed ? body.pipeThrough",
    to: "(this.url === '' ? body.pipeThrough",
    tests: `${downloads} ${hub}`,
  },
  "whole files appended to their part": {
    file: "lib/io/download.ts",
    from: "  if (status !== 206) part.restart();\n",
    to: "",
    tests: downloads,
  },
  "hashes of downloads not compared": {
    file: "lib/io/download.ts",
    from: "if (found === checksum.value) break;",
    to: "if (found !== '') break;",
    tests: downloads,
  },
  "what an interrupted download left thrown away": {
    file: "lib/io/download.ts",
    from: 'openSync(partPath(path), "a+")',
    to: 'openSync(partPath(path), "w+")',
    tests: downloads,
  },
  "names of a hub's files may leave the folder": {
    file: "lib/models/folder/hub_record.ts",
    from: "tokenizer\\/(\\w+\\.json|",
    to: "tokenizer\\/(.+\\.json|",
    tests: hub,
  },
  "tokens sent unencrypted": {
    file: "lib/models/folder/hub_server.ts",
    from: '!(url?.protocol === "http:" && isLocal)',
    to: '!(url?.protocol === "http:")',
    tests: hub,
  },
  "downloaded files trusted by their size": {
    file: "lib/models/folder/hub_record.ts",
    from: "return [size, mtimeMs, ino];",
    to: "return [size, 0, 0];",
    tests: hub,
  },
  "no save through a link": {
    file: "lib/io/file_operations.ts",
    from: "const folder = statSync(path).isDirectory();",
    to: "const folder = Deno.lstatSync(path).isDirectory;",
    tests: "tests/train/checkpoint/shared_folders_test.ts",
  },
  "files that are written to read on": {
    file: "lib/io/safetensors/safetensors.ts",
    from: "    if (writtenAt(descriptor) === this.#writtenAt) return;\n",
    to: "    if (writtenAt(descriptor) >= this.#writtenAt) return;\n",
    tests: headers,
  },
  "names that are not UTF-8 told to be missing": {
    file: "lib/io/file_operations.ts",
    from: 'code === "ENOENT" && path.includes(NOT_UTF8)',
    to: 'code === "EX" && path.includes(NOT_UTF8)',
    tests: "tests/data/dataset/file_names_test.ts",
  },
};
