/** Recording, placing and running: lifetimes, copies between host and GPU, checkpointing, pieces, diagnosis. */
import type { Bugs } from "./bug.ts";

const copies = "tests/plan/copies_test.ts";
const policies = "tests/ops/policies_test.ts";
const memory = "tests/plan/memory_test.ts";

/** Bugs of `lib/plan`, `lib/gpu` and `lib/ops`. */
export const memoryBugs: Bugs = {
  "changed copies not written back": {
    file: "lib/plan/copies.ts",
    from: "if (changed) this.transfer(tensor, owner);",
    to: "if (changed && owner.quantised !== undefined) this.transfer(tensor, owner);",
    tests: copies,
  },
  "copies outlive their window": {
    file: "lib/plan/copies.ts",
    from: "    this.#copies.clear();\n",
    to: "",
    tests: copies,
  },
  "memory of a tensor free before its last use": {
    file: "lib/plan/memory.ts",
    from: "other.last < first || last < other.first",
    to: "other.last <= first || last <= other.first",
    tests: memory,
  },
  "outputs overwritten behind their last step": {
    file: "lib/plan/memory.ts",
    from: "if (span !== undefined) span.last = steps.length;",
    to: "if (span !== undefined) span.last += 0;",
    tests: "tests/plan/recording_test.ts",
  },
  "launches share parameters of other types": {
    file: "lib/plan/recording.ts",
    from: "`${launch.kernel.params}|${launch.params}`",
    to: "`${launch.params}`",
    tests: "tests/plan/recording_test.ts",
  },
  "arena of the first recording alone": {
    file: "lib/plan/recording.ts",
    from: "Math.max(...recordings.map(({ memory }) => memory.chunks[i] ?? 0))",
    to: "recordings[0]!.memory.chunks[i] ?? 0",
    tests: `${memory} tests/train/buckets_test.ts`,
  },
  "gradients replaced where they should be added": {
    file: "lib/plan/plan.ts",
    from: "if (existing !== undefined) return write(existing, true);",
    to: "if (existing !== undefined) return write(existing, false);",
    tests: "tests/ops/cases_test.ts",
  },
  "parts of rows drop as the first does": {
    file: "lib/plan/plan.ts",
    from: "          this.#firstRow = first;\n          this.#partBackward",
    to: "          this.#partBackward",
    tests: "tests/step/memory_policies_test.ts",
    filter: "ranges of rows trains lora",
  },
  "kept results recorded again": {
    file: "lib/plan/plan.ts",
    from: "const kept = memo.replay ? memo.store.get(key) : undefined;",
    to: "const kept = memo.replay ? undefined : undefined;",
    tests: policies,
  },
  "uploads do not wait for downloads of the same tensor": {
    file: "lib/gpu/host_memory.ts",
    from: "findLastIndex(({ owner }) => owner === from.owner) + 1",
    to: "findLastIndex(({ owner }) => owner === undefined) + 1",
    tests: "tests/step/memory_policies_test.ts tests/plan/copies_test.ts",
  },
  "reads do not wait for downloads": {
    file: "lib/gpu/session.ts",
    from: "    await this.host.settle();\n",
    to: "",
    tests: "tests/step/memory_policies_test.ts tests/plan/copies_test.ts",
  },
  "limit of GPU memory counts buffers alone": {
    file: "lib/gpu/session.ts",
    from: "this.#count(rows * textureRowBytes(format), label);",
    to: "this.#count(0, label);",
    tests: "tests/gpu/engine_test.ts tests/forecast/phases_test.ts",
  },
  "pieces of a copy begin where the tensor does": {
    file: "lib/gpu/session.ts",
    from: "        offset += target.bytes;\n",
    to: "",
    tests: "tests/plan/pieces_test.ts tests/models/pieces_test.ts tests/step/pieces_test.ts",
  },
  "gate gradients dropped": {
    file: "lib/ops/gated_residual.ts",
    from: "      recordWork(plan, gateSums(plan.target, { g: g.dtype, y: y.dtype }, columns), { g, y, out: dGate });\n",
    to: "",
    tests: "tests/ops/cases_test.ts",
    filter: "/gate/",
  },
  "attention without its scale": {
    file: "lib/ops/attention.ts",
    from: "scale: 1 / Math.sqrt(headDim) }",
    to: "scale: 1 }",
    tests: "tests/ops/cases_test.ts",
    filter: "/attention/",
  },
  "gradient of A without the scale": {
    file: "lib/ops/linear.ts",
    from: "a: g, b: up, c: t }, { m, n: rank, k: n, alpha: scale });",
    to: "a: g, b: up, c: t }, { m, n: rank, k: n });",
    tests: "tests/ops/cases_test.ts",
    filter: "/linear|adapter|LoRA/",
  },
  "gradient of A from the whole input": {
    file: "lib/ops/linear.ts",
    from: "a: t, b: dropped(), c: dDown",
    to: "a: t, b: x, c: dDown",
    tests: "tests/ops/cases_test.ts tests/train/dropout_test.ts",
    filter: "/drop/",
  },
  "bias of DoRA in its gradient": {
    file: "lib/ops/dora.ts",
    from: "      scaled(g, du);\n",
    to: "      scaled(g, du, bias);\n",
    tests: "tests/ops/cases_test.ts",
    filter: "/DoRA|magnitude/",
  },
};
