/**
 * Every optimizer with all that other parts need to know of it. Another one is an entry here, a rule beside this file
 * and its kernels: names, checks, help and schema follow from the entry, memory from the tensors that its rule
 * declares.
 */
import type { Bucket } from "../models/tensors/trainables.ts";
import { adamRule } from "./adam.ts";
import { adam8bitRule } from "./adam_8bit.ts";
import { adamBf16Rule } from "./adam_bf16.ts";
import { cameRule } from "./came.ts";
import { prodigyRule } from "./prodigy.ts";
import type { RuleConfig, UpdateRule } from "./rule.ts";

/** A setting that is legal and likely a mistake. */
export interface Advice {
  readonly key: "learning_rate" | "epsilon" | "lr_range_test";
  readonly message: string;
}

/** One optimizer. */
export interface Optimizer {
  /** Continues a sentence that begins with its name. */
  readonly summary: string;
  /** Bytes of state beside each f32 master; a little more where blocks, rows and columns have state of their own. */
  readonly stateBytes: number;
  /** A value's update looks at that value alone, so ranks can each update a part of a tensor. */
  readonly shardable: boolean;
  /** Its kernels round weights that are stored in bf16 alone. */
  readonly bf16: boolean;
  /** What to say about settings; `given` tells whether the user set a key. */
  readonly advise?: (
    settings: { readonly learning_rate: number; readonly lr_range_test: boolean },
    given: (key: Advice["key"]) => boolean,
  ) => readonly Advice[];
  /** Declares its tensors; the rule records the update. */
  readonly rule: (config: RuleConfig, buckets: readonly Bucket[]) => UpdateRule;
}

function adamFamily(kind: "adamw" | "adam"): Optimizer["rule"] {
  return (config, buckets) => {
    const { master_weights = "f32" } = config;
    if (master_weights === "f32") return adamRule(config, kind, buckets);
    return adamBf16Rule(config, { kind, rounding: master_weights === "bf16_kahan" ? "kahan" : "stochastic" }, buckets);
  };
}

/** All optimizers by their name in a config; the first is the default. */
export const optimizers = {
  adamw: {
    summary: "decays weights apart from the gradient",
    stateBytes: 8,
    shardable: true,
    bf16: true,
    rule: adamFamily("adamw"),
  },
  adam: {
    summary: "adds the decay to the gradient",
    stateBytes: 8,
    shardable: true,
    bf16: true,
    rule: adamFamily("adam"),
  },
  prodigy: {
    summary: "finds the learning rate itself",
    stateBytes: 16,
    // Its distance is a sum over all values.
    shardable: false,
    bf16: false,
    advise({ learning_rate, lr_range_test }) {
      if (lr_range_test) return [{ key: "lr_range_test", message: "Prodigy finds the step size itself" }];
      const message = `${learning_rate}: Prodigy finds the step size itself; its learning rate is usually 1`;
      return learning_rate > 0.1 ? [] : [{ key: "learning_rate", message }];
    },
    rule: prodigyRule,
  },
  came: {
    summary: "keeps second moments of rows and columns only",
    stateBytes: 4,
    // Rows and columns do not end where shards end.
    shardable: false,
    bf16: false,
    advise: (_, given) =>
      given("epsilon") ? [{ key: "epsilon", message: "has no effect on CAME, which uses 1e-30 and 1e-16" }] : [],
    rule: cameRule,
  },
  adamw8bit: {
    summary: "is AdamW with moments of one byte",
    stateBytes: 2,
    // Blocks of moments that share a scale do not end where shards end.
    shardable: false,
    bf16: false,
    rule: adam8bitRule,
  },
} as const satisfies Readonly<Record<string, Optimizer>>;

/** Name of an optimizer. */
export type OptimizerName = keyof typeof optimizers;

/** Names in the order of the table. */
export const optimizerNames = Object.keys(optimizers) as [OptimizerName, ...OptimizerName[]];

/** Names of those that can do something, for messages: "adamw or adam". */
export function optimizersThat(can: "shardable" | "bf16"): string {
  return optimizerNames.filter((name) => optimizers[name][can]).join(" or ");
}
