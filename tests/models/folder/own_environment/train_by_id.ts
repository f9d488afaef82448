/** Training of a model by its hub id, which is found and kept by what the environment says. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { train } from "../../../../lib/train/trainer.ts";
import { configOf, inScratch } from "../../../train/runs.ts";
import { FakeHub } from "../fake_hub.ts";

Deno.test("train takes a hub id: downloads first, then works without network; a dry run downloads nothing", () =>
  inScratch(async (folder) => {
    await using hub = new FakeHub();
    const variables = { HOME: folder, HF_ENDPOINT: hub.endpoint, HF_TOKEN: "" };
    for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
    const config = configOf(folder, { model_path: "owner/name", train_steps: 1 });
    await assert.rejects(train({ ...config, dry_run: true }).next(), /no model of this id is downloaded/);
    assert.deepEqual(hub.asked, []);
    // A mirror is told, and believed no more than the hub itself.
    const weights = "vae/diffusion_pytorch_model.safetensors";
    hub.intercept = (_, path) =>
      path.endsWith(weights) ? new Response(hub.files.get(weights)!.map((byte) => byte ^ 1)) : undefined;
    await assert.rejects(
      Array.fromAsync(train(config)),
      /diffusion_pytorch_model.safetensors is damaged or another file/,
    );
    hub.intercept = () => undefined;
    const events = await Array.fromAsync(train(config));
    assert.deepEqual(events[0], {
      type: "status",
      message: `owner/name comes from ${hub.endpoint}, as HF_ENDPOINT says`,
    });
    assert.deepEqual([events[1]!.type, events.at(-1)!.type], ["download", "finished"]);
    assert.ok(existsSync(join(folder, ".cache", "cogtune", "models", "owner--name", "model_index.json")));
    assert.match(
      readFileSync(join(config.output_dir, "checkpoint-1", "config.yaml"), "utf8"),
      /model_path: owner\/name/,
    );
    hub.asked.length = 0;
    const again = train({ ...config, resume_from_checkpoint: "latest" });
    for await (const { type } of again) assert.notEqual(type, "download");
    assert.deepEqual(hub.asked, []);
  }));
