/** Files that were replaced under their old names since a checkpoint: the run that continues refuses them or says so. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { verifyFolder } from "../../../lib/io/commit_folder.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { train } from "../../../lib/train/trainer.ts";
import { collect, configOf, examples, inScratch } from "../runs.ts";

const WEIGHTS = "diffusion_pytorch_model.safetensors";

/** What a run says of its inputs. */
const told = (events: readonly TrainEvent[]) =>
  events.flatMap((event) =>
    event.type === "warning" && / in the checkpoint, /.test(event.message) ? [event.message] : []
  );

/** Changes the lowest bit of the last weight of a file; doing it twice puts the file back. */
function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length - 4]! ^= 1;
  writeFileSync(path, bytes);
}

/** A run of one step on a model of its own, and the config that continues it by one. */
async function begun(folder: string, overrides: Record<string, unknown>) {
  const model = join(folder, "model");
  rmSync(model, { recursive: true, force: true });
  cpSync(join(examples, "tiny-2b"), model, { recursive: true });
  const config = configOf(folder, { model_path: model, train_steps: 1, checkpointing_steps: 1, ...overrides });
  await collect(config);
  const checkpoint = join(config.output_dir, "checkpoint-1");
  const resumed = { ...config, train_steps: 2, resume_from_checkpoint: checkpoint, output_dir: join(folder, "next") };
  return { model, checkpoint, resumed };
}

Deno.test("adapters go on with the weights they were trained on alone, and a run refuses others before it begins", () =>
  inScratch(async (folder) => {
    const { model, checkpoint, resumed } = await begun(folder, {});
    const weights = join(model, "transformer", WEIGHTS);
    flip(weights);
    const events: TrainEvent[] = [];
    await assert.rejects(
      async () => {
        for await (const event of train(resumed)) events.push(event);
      },
      (error) => {
        assert.ok(error instanceof UserError);
        const says =
          /model\/transformer" is not what ".*checkpoint-1" was trained on: .* SHA-256 (\w{12}), expected SHA-256 (\w{12})/;
        const [, found, expected] = says.exec(error.summary)!;
        assert.notEqual(found, expected);
        assert.match(error.hint!, /put the files of that model back[^]*init_lora/);
        return true;
      },
    );
    assert.deepEqual(events, []);
    assert.deepEqual((await verifyFolder(checkpoint)).problems, []);
    flip(weights);
    assert.deepEqual(told(await collect(resumed)), ["train_steps: 1 in the checkpoint, 2 here"]);
  }));

Deno.test("clips, prompts and encoders that have changed since the checkpoint are named, each by itself", () =>
  inScratch(async (folder) => {
    const { model, resumed } = await begun(folder, { training_type: "sft" });
    // All weights are in the checkpoint, whatever the model's own are.
    flip(join(model, "transformer", WEIGHTS));
    const prompts = join(folder, "clips", "prompts.txt"), text = readFileSync(prompts, "utf8");
    const changes: Record<string, () => void> = {
      dataset: () => writeFileSync(prompts, text.replace(/^\S+/, "Suddenly")),
      vae: () => {
        writeFileSync(prompts, text);
        flip(join(model, "vae", WEIGHTS));
      },
      text_encoder: () => {
        flip(join(model, "vae", WEIGHTS));
        flip(join(model, "text_encoder", "model.safetensors"));
      },
    };
    for (const [name, change] of Object.entries(changes)) {
      change();
      rmSync(resumed.output_dir, { recursive: true, force: true });
      const lines = told(await collect(resumed));
      assert.equal(lines.length, 2, `${name}: ${lines}`);
      assert.match(lines[0]!, new RegExp(`^${name}: SHA-256 \\w{12} in the checkpoint, SHA-256 \\w{12} here$`));
    }
  }));
