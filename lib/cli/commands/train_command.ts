/** `cogtune train`: checks the config, prepares the machine, runs the trainer and shows its events. */
import { collectConfig, printConfig, requireTrainable, type TrainConfig } from "../../config/config.ts";
import { countGpus } from "../../comm/gpus/gpus.ts";
import { writeAccess } from "../../models/folder/hub_upload.ts";
import { findModelPath } from "../../models/folder/hub.ts";
import { properties } from "../../config/schema.ts";
import { configArguments } from "../settings/arguments.ts";
import { type OwnFlag, takeOwn } from "../settings/own_flags.ts";
import { pushResult } from "../push/push.ts";
import { parsePort } from "../dashboard/route.ts";
import type { Environment } from "../machine/environment.ts";
import { nextSteps } from "../show/next_steps.ts";
import { Progress } from "../show/progress.ts";
import { requireConfig } from "../../train/checks/preflight.ts";
import type { ExampleRequest, FinishedEvent } from "../../train/report/events.ts";
import { withSignals } from "../machine/signals.ts";

/** What `train` takes besides settings. */
export const trainFlags: readonly OwnFlag[] = [
  {
    name: "dashboard",
    takes: "[PORT]",
    brief: "Serve the page of the run to browsers on this machine while it goes on",
  },
];

/** Runs the command; returns the exit code. Throws UserError for whatever the user has to mend. */
export async function trainCommand(environment: Environment, words: readonly string[]): Promise<number> {
  const { commands, terminal, json } = environment;
  const { own, settings } = takeDashboard(words);
  const port = own === undefined || own === "" ? undefined : parsePort(own);
  const collected = await collectConfig(configArguments(await countedGpus(settings)));
  const { config, notes } = await requireConfig(collected, { training: true });
  for (const note of notes) terminal.writeError(`note: ${note}\n`);
  requireTrainable(config);
  // Of the ranks that mpirun has started, the first writes the page and pushes.
  const isFirst = (environment.system.environment("OMPI_COMM_WORLD_RANK") ?? "0") === "0";
  // A token that is missing is told before hours of training.
  if (config.push_to_hub !== undefined && isFirst) writeAccess();
  if (config.dry_run) {
    // A dry run of the trainer ends with all mistakes, or where the first computation would begin; it downloads
    // nothing.
    if (config.model_path === undefined || findModelPath(config.model_path) !== undefined) {
      for await (const event of commands.train({ ...config, gpus: 1 }, { signal: new AbortController().signal })) {
        if (event.type === "warning") terminal.writeError(`note: ${event.message}\n`);
      }
    }
    const { lines, figures } = await commands.plan(config);
    if (json) terminal.json({ type: "dry run", config, ...figures });
    else terminal.write(`${printConfig(config)}\n${lines.join("\n")}\n`);
    return 0;
  }
  await environment.ensureSystem((line) => terminal.writeError(`${line}\n`));
  terminal.status(`${changedSettings(config)}\n`);
  await using dashboard = own === undefined || !isFirst ? undefined : await commands.serve(config.output_dir, port);
  if (dashboard !== undefined) terminal.status(`Dashboard: ${dashboard.address} (this machine only)\n`);
  const progress = new Progress(terminal);
  return await withSignals(
    environment.signals,
    async (signal) => {
      try {
        let example: ExampleRequest | undefined;
        let finished: FinishedEvent | undefined;
        for await (const event of commands.train(config, { signal })) {
          if (event.type === "started") ({ example } = event);
          if (json) terminal.json(event);
          else progress.show(event);
          if (event.type === "finished") finished = event;
        }
        if (finished === undefined) return;
        for (const line of nextSteps(config, finished, example)) progress.line(line);
        if (!finished.interrupted) await pushResult(environment, config, { last: finished.path, signal });
      } finally {
        progress.finish();
      }
    },
    (name, again) =>
      progress.line(
        again
          ? `${name} again: ended without saving; what was saved before is whole`
          : `${name}: finishing this step and saving; once more ends at once, without saving`,
      ),
  );
}

/** The value of `--dashboard`, whose port may be left out, so that a word behind it that is a config is one. */
function takeDashboard(
  words: readonly string[],
): { readonly own: string | undefined; readonly settings: readonly string[] } {
  const { own, settings } = takeOwn(words, trainFlags);
  const value = own.get("dashboard");
  return value !== undefined && /\.ya?ml$/i.test(value)
    ? { own: "", settings: [value, ...settings] }
    : { own: value, settings };
}

/** `gpus=all` with the number of cards in place of `all`. */
async function countedGpus(words: readonly string[]): Promise<string[]> {
  const count = words.includes("gpus=all") ? await countGpus() : 0;
  return words.map((word) => word === "gpus=all" ? `gpus=${count}` : word);
}

/** The settings that differ from their defaults, as `key: value` lines. */
export function changedSettings(config: TrainConfig): string {
  const isDefault = (key: string, value: unknown) => JSON.stringify(properties[key]?.default) === JSON.stringify(value);
  const changed = Object.entries(config).filter(([key, value]) => value !== undefined && !isDefault(key, value));
  const show = (key: string, value: unknown) =>
    Array.isArray(value) ? value.join(key === "train_resolution" ? "x" : " ") : String(value);
  return changed.map(([key, value]) => `${key}: ${show(key, value)}`).join("\n");
}
