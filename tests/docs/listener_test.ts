/** The script of docs/terminal.md that follows a run, with a stand-in for wandb, and a reader that ends before the run. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TrainEvent } from "../../lib/train/report/events.ts";
import { cli, stepEvent } from "../cli/fakes.ts";
import { fromFileUrl } from "../paths.ts";
import { trainWords } from "../bad_input/command.ts";
import { examples, inScratch } from "../train/runs.ts";

const hasPython = await canRun("python3");

/** Whether a program is there; where none is, starting it throws at once. */
async function canRun(program: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

/** Writes what it is told to wandb.json in the current folder. */
const STAND_IN = `
import json
told = {"init": None, "config": {}, "log": [], "finished": False}
class Video:
    def __init__(self, path, format): self.path, self.format = path, format
class Run:
    class config:
        update = told["config"].update
    def log(self, values, step):
        plain = {k: v.__dict__ if isinstance(v, Video) else v for k, v in values.items()}
        told["log"].append([step, plain])
    def finish(self):
        told["finished"] = True
        json.dump(told, open("wandb.json", "w"))
def init(**options):
    told["init"] = options
    return Run()
`;

async function* told(): AsyncGenerator<TrainEvent> {
  const run = { totalSteps: 2, clips: 3, parameters: 1000, device: "llvmpipe", outputDir: "/run" };
  yield { type: "started", step: 0, ...run, example: { prompt: "a ball" } };
  yield { type: "heldout", step: 0, loss: 0.5, bands: [] };
  yield stepEvent(1, 2);
  yield { type: "warning", message: "the disk is nearly full" };
  yield { type: "saved", step: 2, path: "/run/checkpoint-2", bytes: 10, seconds: 1 };
  yield { type: "sample", step: 2, prompt: "a ball\n", path: "/run/validation_res/a.mp4", seconds: 1 };
  yield await Promise.resolve({ type: "finished", step: 2, seconds: 4, path: "/run/checkpoint-2", interrupted: false });
}

Deno.test({
  name: `the script for wandb tells it what a run tells${hasPython ? "" : " (not run: there is no python3)"}`,
  ignore: !hasPython,
  fn: () =>
    inScratch(async (folder) => {
      const page = readFileSync(fromFileUrl("../../docs/terminal.md", import.meta.url), "utf8");
      const [, script] = /```python\n([^]*?)```/.exec(page)!;
      writeFileSync(join(folder, "to_wandb.py"), script!);
      writeFileSync(join(folder, "wandb.py"), STAND_IN);
      const words = ["train", "--model_path", "THUDM/CogVideoX-2b", "--data_root", join(folder, "clips"), "--json"];
      const { code, out } = await cli(words, { events: told });
      assert.equal(code, 0, out);
      const child = new Deno.Command("python3", {
        args: ["to_wandb.py"],
        cwd: folder,
        env: { WANDB_MODE: "offline" },
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(out));
      await writer.close();
      const { success, stderr } = await child.output();
      const error = new TextDecoder().decode(stderr);
      assert.ok(success, error);
      assert.equal(error, "warning: the disk is nearly full\n");
      // The figures are those of stepEvent.
      assert.deepEqual(JSON.parse(readFileSync(join(folder, "wandb.json"), "utf8")), {
        init: { project: "cogtune", mode: "offline" },
        config: { device: "llvmpipe", clips: 3, parameters: 1000, totalSteps: 2 },
        log: [
          [0, { heldout_loss: 0.5 }],
          [1, { loss: 0.25, grad_norm: 1.5, learning_rate: 2e-5, seconds: 2 }],
          [2, { "a ball\n": { path: "/run/validation_res/a.mp4", format: "mp4" } }],
        ],
        finished: true,
      });
    }),
});

Deno.test({
  name: "a run outlives the program that reads its events",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inScratch(async (folder) => {
      const model = `--model_path=${join(examples, "tiny-2b")}`;
      const words = trainWords(folder, model, `--cache_dir=${join(folder, "cache")}`, "--json");
      const program = [Deno.execPath(), "run", "-A", "--quiet", fromFileUrl("../../mod.ts", import.meta.url), ...words];
      const { code, stderr } = await new Deno.Command("bash", {
        args: ["-c", '"$@" | head -n 1; exit "${PIPESTATUS[0]}"', "bash", ...program],
      }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.ok(existsSync(join(folder, "run/checkpoint-2/manifest.json")));
    }),
});
