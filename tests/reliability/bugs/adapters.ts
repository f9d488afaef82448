/** Adapters: their strength, their start, their files. */
import type { Bugs } from "./bug.ts";

const adapters = "tests/models/lora/adapters_test.ts";
const file = "tests/models/lora/file_test.ts tests/models/lora/formats_test.ts";
const merge = "tests/models/lora/merge_test.ts";
const several = "tests/models/lora/several_test.ts";
const start = "tests/models/lora/start_test.ts";

/** Bugs of `lib/models/lora` and of quantised weights. */
export const adapterBugs: Bugs = {
  "alpha not divided by the rank": {
    file: "lib/models/lora/adapters.ts",
    from: "adapters.set(layer, { down, up, scale: alpha / rank,",
    to: "adapters.set(layer, { down, up, scale: alpha,",
    tests: `${adapters} tests/step/training_step_test.ts`,
  },
  "rsLoRA by the rank": {
    file: "lib/models/lora/adapters.ts",
    from: "rankStabilised ? Math.sqrt(own) : 1",
    to: "rankStabilised ? own : 1",
    tests: adapters,
  },
  "A starts positive": {
    file: "lib/models/lora/adapters.ts",
    from: "(2 * u - 1) * bound",
    to: "u * bound",
    tests: adapters,
  },
  "A and B exchanged at the start": {
    file: "lib/models/lora/adapters.ts",
    from:
      "    values.set(`${layer}.lora_A.weight`, a);\n    values.set(`${layer}.lora_B.weight`, new Float32Array(outFeatures * rank));",
    to:
      "    values.set(`${layer}.lora_A.weight`, new Float32Array(a.length));\n    values.set(`${layer}.lora_B.weight`, new Float32Array(outFeatures * rank).fill(bound));",
    tests: adapters,
  },
  "dots of patterns match anything": {
    file: "lib/models/lora/adapters.ts",
    from: '.map((part) => part.replace(/[.\\\\+?^${}()|[\\]]/g, "\\\\$&"))',
    to: "",
    tests: adapters,
  },
  "last pattern of a layer counts": {
    file: "lib/models/lora/adapters.ts",
    from: "lookups.find(({ matches }) => matches(layer))?.value",
    to: "lookups.findLast(({ matches }) => matches(layer))?.value",
    tests: adapters,
  },
  "padded ranks taken for columns": {
    file: "lib/models/lora/adapters.ts",
    from: "resized.set(values.subarray(r * columns, r * columns + width), r * newColumns);",
    to: "resized.set(values.subarray(r * columns, r * columns + width), r * width);",
    tests: `${adapters} ${start}`,
  },
  "strength of a file's alpha lost at the start": {
    file: "lib/models/lora/start.ts",
    from: "const factor = alpha / rank / (own.alpha / own.rank);",
    to: "const factor = 1 / (own.alpha / own.rank);",
    tests: start,
  },
  "strengths of stacked LoRAs ignored": {
    file: "lib/models/lora/stack.ts",
    from: "factor: strength * module.alpha / module.rank",
    to: "factor: module.alpha / module.rank",
    tests: `${merge} tests/sample/load_transformer_test.ts`,
  },
  "merged at strength one": {
    file: "lib/models/lora/merge_into_weights.ts",
    from: "(magnitude === undefined ? strength : 1) * alpha / rank",
    to: "alpha / rank",
    tests: merge,
  },
  "DoRA merged at strength one": {
    file: "lib/models/lora/merge_into_weights.ts",
    from: "target[i]! += strength * (factor * sum[i]! - target[i]!);",
    to: "target[i] = factor * sum[i]!;",
    tests: several,
  },
  "second LoRA merged onto the first's weights": {
    file: "lib/models/lora/merge_into_weights.ts",
    from: "sum[i]! += own[i]! - rows[i]!;",
    to: "sum[i]! += own[i]!;",
    tests: several,
  },
  "ranks that are no multiple of four lose rows": {
    file: "lib/models/lora/merge_into_weights.ts",
    from: "const padded = Math.ceil(rank / 4) * 4;",
    to: "const padded = Math.floor(rank / 4) * 4;",
    tests: merge,
  },
  "alpha of SAT files not folded into B": {
    file: "lib/models/lora/file.ts",
    from: "up: module.up.map((value) => value * module.alpha)",
    to: "up: module.up",
    tests: file,
  },
  "alpha of SAT files taken for the rank": {
    file: "lib/models/lora/read.ts",
    from: 'return format === "sat" ? 1 : rank;',
    to: "return rank;",
    tests: file,
  },
  "rsLoRA of other files by the rank": {
    file: "lib/models/lora/metadata.ts",
    from: "? alpha * Math.sqrt(rank) : alpha;",
    to: "? alpha : alpha;",
    tests: file,
  },
  "written files not compared": {
    file: "lib/models/lora/file.ts",
    from: "else if (!sameBytes(file.readBytes(name), data))",
    to: "else if (data.length < 0)",
    tests: several,
  },
  "targets of peft name layers that are not adapted": {
    file: "lib/models/lora/metadata.ts",
    from: "return same ? targets : layers;",
    to: "return targets;",
    tests: file,
  },
  "SVD without its power iterations": {
    file: "lib/models/lora/svd.ts",
    from: "const POWER_ITERATIONS = 2;",
    to: "const POWER_ITERATIONS = 0;",
    tests: "tests/models/lora/extract_test.ts",
  },
  "nf4 rounded down": {
    file: "lib/models/tensors/quantise.ts",
    from: "(level + NF4_LEVELS[i]!) / 2",
    to: "level",
    tests: "tests/kernels/matrix/dequantise_test.ts",
  },
  "int8 scaled by 128": {
    file: "lib/models/tensors/quantise.ts",
    from: "Math.fround(largest / 127)",
    to: "Math.fround(largest / 128)",
    tests: "tests/kernels/matrix/dequantise_test.ts",
  },
};
