/** YAML that is made to cost time or memory is decided at once, whatever it is. */
import assert from "node:assert/strict";
import process from "node:process";
import { parseConfig } from "../../lib/config/config.ts";
import { UserErrors } from "../../lib/errors.ts";

const rows = (count: number, row: (i: number) => string, between = "\n") =>
  Array.from({ length: count }, (_, i) => row(i)).join(between);

/** Texts as long as a config may be, or longer. */
const BOMBS: Readonly<Record<string, string>> = {
  "aliases that multiply": `a0: &a0 [x, x]\n${
    rows(9, (i) => `a${i + 1}: &a${i + 1} [${rows(9, () => `*a${i}`, ", ")}]`)
  }`,
  "merges that multiply": `a0: &a0 {k: v}\n${rows(30, (i) => `a${i + 1}: &a${i + 1} {<<: [*a${i}, *a${i}]}`)}`,
  "an alias to what it is in": "a: &a [*a]",
  "lists in lists": "[".repeat(16_000),
  "lists in lists, longer than a config": "[".repeat(500_000),
  "mappings in mappings": "{a: ".repeat(4_000),
  "mappings in mappings by indentation": rows(170, (i) => `${" ".repeat(i)}a:`),
  "lists in lists by dashes": "- ".repeat(8_000),
  "lists in lists by dashes, longer than a config": "- ".repeat(300_000),
  "keys in keys": "? ".repeat(8_000),
  "keys that nobody knows": rows(1_500, (i) => `k${i}: 1`),
  "one key again and again": "a: 1\n".repeat(3_000),
  "aliases in a row": `a: &x 1\nb: [${"*x, ".repeat(4_000)}1]`,
  "anchors in a row": rows(1_000, (i) => `k${i}: &a${i} 1`),
  "quotes": '"'.repeat(16_000),
  "a long text": `a: ${"x".repeat(16_000)}`,
};

Deno.test("YAML bombs are refused, each with a place", () => {
  for (const [name, text] of Object.entries(BOMBS)) {
    assert.throws(
      () => parseConfig(text, { fileName: "h.yaml" }),
      (error) => error instanceof UserErrors && error.problems.some((problem) => problem.startsWith("h.yaml:")),
      name,
    );
  }
});

Deno.test({
  name: "YAML bombs are decided within 0.1 s (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  fn: () => {
    const slow: string[] = [];
    for (const [name, text] of Object.entries(BOMBS)) {
      // Processor time, and the least of several: without what compiling, other tests and other programs take.
      const milliseconds = Array.from({ length: 5 }, () => {
        const start = process.cpuUsage();
        assert.throws(() => parseConfig(text, { fileName: "h.yaml" }), UserErrors);
        const { user, system } = process.cpuUsage(start);
        return (user + system) / 1000;
      });
      const least = Math.min(...milliseconds);
      // deno-lint-ignore no-console
      console.log(`${name}: ${least.toFixed(1)} ms`);
      if (least > 100) slow.push(name);
    }
    assert.deepEqual(slow, []);
  },
});
