/** Learning rates and warm-ups that make no sense: refused where they cannot be meant, noted where they may. */
import assert from "node:assert/strict";
import { parseConfig, resolveConfig } from "../../lib/config/config.ts";
import { UserErrors } from "../../lib/errors.ts";

const problems = (text: string): readonly string[] => {
  try {
    parseConfig(text);
    return [];
  } catch (error) {
    assert.ok(error instanceof UserErrors, `${error}`);
    return error.problems;
  }
};

Deno.test("a learning rate below zero or no number is refused at its key; zero and large ones are somebody's choice", () => {
  for (const rate of ["-1e-4", ".nan", ".inf", "-.inf", "fast", "[1e-4]"]) {
    const found = problems(`model: 2b\nlearning_rate: ${rate}\n`);
    assert.equal(found.length, 1, `${rate}: ${found}`);
    assert.match(found[0]!, /learning_rate: expected a number/);
  }
  for (const rate of ["0", "1", "1e3"]) assert.deepEqual(problems(`model: 2b\nlearning_rate: ${rate}\n`), []);
});

Deno.test("a warm-up that the run does not outlast is noted with both numbers", () => {
  const notes = (settings: string) =>
    resolveConfig(`model: 2b\n${settings}`).notes.filter((note) => /warmup/.test(note));
  const [note, ...more] = notes("train_steps: 100\nlr_warmup_steps: 100\n");
  assert.deepEqual(more, []);
  assert.match(note!, /lr_warmup_steps.*100: the run has 100 steps, so the learning rate never reaches its peak/);
  assert.deepEqual(notes("train_steps: 101\nlr_warmup_steps: 100\n"), []);
  assert.match(problems("model: 2b\nlr_warmup_steps: -1\n").join(), /lr_warmup_steps: expected a whole number/);
});
