import assert from "node:assert/strict";
import { parseConfig } from "../../../lib/config/config.ts";
import { UserErrors } from "../../../lib/errors.ts";
import { requireSameRun } from "../../../lib/train/checks/same_run.ts";
import type { TrainingSample } from "../../../lib/train/data/prepare_data.ts";
import { withGroup } from "../../comm/exchange/groups.ts";

function configOf(overrides: Readonly<Record<string, unknown>>) {
  return parseConfig("", { overrides: { preset: "5b-lora", data_root: "/", ...overrides } });
}

/** A sample whose clip has the hash `clip`. */
function sampleOf(clip: string): TrainingSample {
  const request = (content: string) => ({ kind: "prompt", name: "p", fields: { content } }) as const;
  return { latent: request(clip), prompt: request("p") } as unknown as TrainingSample;
}

Deno.test("ranks may differ in paths, and every other difference is named on every rank", async () => {
  await withGroup(3, async (communicator) => {
    const { rank } = communicator;
    await requireSameRun(communicator, configOf({ output_dir: `/run-${rank}` }), [sampleOf("a")]);
    const config = configOf({ learning_rate: rank === 2 ? 0.5 : 0.25, seed: rank === 1 ? 3 : 4 });
    await assert.rejects(
      requireSameRun(communicator, config, [sampleOf(rank === 2 ? "b" : "a")]),
      (error) => {
        assert.ok(error instanceof UserErrors);
        assert.equal(error.problems.length, 3);
        assert.equal(error.problems[0], "seed is 3 on rank 1, but 4 on rank 0");
        assert.equal(error.problems[1], "learning_rate is 0.5 on rank 2, but 0.25 on rank 0");
        assert.match(error.problems[2]!, /^dataset is of SHA-256 \w{12} on rank 2, but of SHA-256 \w{12} on rank 0$/);
        return true;
      },
    );
    await communicator.barrier();
  });
});
