/** Several processes: rings, trees, waits, launching. */
import type { Bugs } from "./bug.ts";

const exchange = "tests/comm/exchange/exchange_test.ts";
const canonical = "tests/comm/exchange/canonical_test.ts";
const adder = "tests/comm/exchange/adder_test.ts";

/** Bugs of `lib/comm` and `lib/train/launch`. */
export const rankBugs: Bugs = {
  "chunks of a ring one byte short": {
    file: "lib/comm/shared_memory/ring.ts",
    from: "const bytes = Math.min(CHUNK, segment.bytes - chunk * CHUNK);",
    to: "const bytes = Math.min(CHUNK - 256, segment.bytes - chunk * CHUNK);",
    tests: "tests/comm/exchange/chunks_test.ts",
  },
  "ring begins with its own segment": {
    file: "lib/comm/shared_memory/ring.ts",
    from: "const back = sums ? step + 2 :",
    to: "const back = sums ? step + 1 :",
    tests: exchange,
  },
  "tree split in halves": {
    file: "lib/comm/exchange/tree.ts",
    from: "return begin + 2 ** (Math.ceil(Math.log2(end - begin)) - 1);",
    to: "return begin + Math.ceil((end - begin) / 2);",
    tests: canonical,
  },
  "sums of the tree in the order of ranks": {
    file: "lib/comm/exchange/tree.ts",
    from:
      "    const into = place({ begin: node.begin, end: middle });\n    const from = place({ begin: middle, end: node.end });",
    to:
      "    const from = place({ begin: node.begin, end: middle });\n    const into = place({ begin: middle, end: node.end });",
    tests: canonical,
  },
  "blocks of ranks leave one out": {
    file: "lib/comm/exchange/tree.ts",
    from: "end: Math.floor((total * (rank + 1)) / size) }",
    to: "end: Math.floor(total / size) * (rank + 1) }",
    tests: `${canonical} ${exchange}`,
  },
  "shards off the alignment of bindings": {
    file: "lib/comm/exchange/arrays.ts",
    from: "Math.ceil(length / size / SHARD_ELEMENTS) * SHARD_ELEMENTS",
    to: "Math.ceil(length / size)",
    tests: `${exchange} tests/comm/exchange/gather_test.ts`,
  },
  "bf16 sums of ranks rounded twice": {
    file: "lib/comm/exchange/adder.ts",
    from: "      const tail = bytes % TURN_BYTES;\n",
    to: "      const tail = 0;\n",
    tests: adder,
  },
  "values of ranks cut to the first's length": {
    file: "lib/comm/exchange/gather.ts",
    from: "part.subarray(LENGTH_BYTES, LENGTH_BYTES + length)",
    to: "part.subarray(LENGTH_BYTES, LENGTH_BYTES + text.length)",
    tests: "tests/comm/exchange/gather_test.ts",
  },
  "counters of ranks compared without wrap-around": {
    file: "lib/comm/shared_memory/control.ts",
    from: "return ((counter - target) | 0) >= 0;",
    to: "return counter >= target;",
    tests: "tests/comm/exchange/control_test.ts",
  },
  "a rank that waits named as the culprit": {
    file: "lib/comm/shared_memory/control.ts",
    from: "      rank = awaited;\n",
    to: "      break;\n",
    tests: `tests/comm/exchange/control_test.ts ${exchange}`,
  },
  "different exchanges not noticed": {
    file: "lib/comm/shared_memory/waiter.ts",
    from: "    if (same) return undefined;\n",
    to: "    if (same || mine.kind === theirs.kind) return undefined;\n",
    tests: exchange,
  },
  "deadline of the first step for all": {
    file: "lib/comm/shared_memory/shared_memory.ts",
    from: "    this.#deadline = deadlineAfter(this.#deadlines, milliseconds);\n",
    to: "",
    tests: "tests/comm/exchange/control_test.ts",
  },
  "the time a machine slept held against a rank": {
    file: "lib/comm/shared_memory/waiter.ts",
    from: "idle + Math.min(passed, 2 * SLICE)",
    to: "idle + passed",
    tests: "tests/comm/exchange/control_test.ts",
  },
  "last lines without an end lost": {
    file: "lib/comm/launch/rank_lines.ts",
    from: '  if (rest !== "") onLine({ rank, stream: name, text: rest });\n',
    to: "",
    tests: "tests/comm/launch/rank_lines_test.ts",
  },
  "lines torn at the end of a piece": {
    file: "lib/comm/launch/rank_lines.ts",
    from: "(rest + decoder.decode(bytes, { stream: true }))",
    to: "(rest + decoder.decode(bytes))",
    tests: "tests/comm/launch/rank_lines_test.ts",
  },
  "shared memory open to all users": {
    file: "lib/comm/shared_memory/region.ts",
    from: "const USER_ALONE = 0o600;",
    to: "const USER_ALONE = 0o666;",
    tests: "tests/comm/exchange/control_test.ts",
  },
  "software renderers taken for cards": {
    file: "lib/comm/gpus/gpus.ts",
    from: 'devices.filter(({ type }) => type !== "cpu")',
    to: "devices.filter(({ type }) => type !== undefined)",
    tests: "tests/comm/gpus/gpus_test.ts",
  },
  "cards of other hosts compared": {
    file: "lib/comm/gpus/placement.ts",
    from: "host === place.host && pci !== undefined",
    to: "pci !== undefined",
    tests: "tests/comm/gpus/placement_test.ts",
  },
};
