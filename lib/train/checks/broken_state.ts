/** What a run ends with whose weights or optimizer state are not finite: no later step would mend them. */
import { basename } from "node:path";
import { UserError } from "../../errors.ts";
import { listCheckpoints } from "../../io/checkpoints.ts";

/** The end of a run after `step` steps; `problem` names the value. No checkpoint on disk has such a value. */
export function brokenState(outputDir: string, step: number, problem: string): UserError {
  const last = listCheckpoints(outputDir).at(-1);
  return new UserError(
    `After ${step} steps ${problem}: the run ends, and nothing is saved of it`,
    last === undefined
      ? "there is no checkpoint yet: start again with a lower learning_rate, or max_grad_norm: 1"
      : `continue from ${
        basename(last.path)
      } with resume_from_checkpoint: latest; should it happen again at the same ` +
        "step, lower learning_rate or set max_grad_norm: 1; at another one, memory of the GPU or the machine may be faulty",
  );
}
