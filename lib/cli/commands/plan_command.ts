/** `cogtune plan`: reads the config and the flags of its own, prints the forecast. */
import { UserError } from "../../errors.ts";
import { collectConfig } from "../../config/config.ts";
import { requireConfig } from "../../train/checks/preflight.ts";
import { configArguments } from "../settings/arguments.ts";
import { type OwnFlag, takeOwn } from "../settings/own_flags.ts";
import type { PlanRequest } from "../machine/commands.ts";
import type { Environment } from "../machine/environment.ts";

/** Sizes as people write them; without a unit GiB are meant, as in `gpu_memory`. */
const units: Readonly<Record<string, number>> = { "": 2 ** 30, gib: 2 ** 30, mib: 2 ** 20, gb: 1e9, mb: 1e6 };

/** Reads `12GiB`, `24 GB` or `12`. */
export function parseMemory(text: string): number {
  const match = /^([0-9]+\.?[0-9]*)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match === null ? undefined : units[match[2]!.toLowerCase()];
  if (match === null || unit === undefined || Number(match[1]) === 0) {
    throw new UserError(`--fit is "${text}": expected an amount of GPU memory`, "as --fit 12GiB, 24GB or 12");
  }
  return Number(match[1]) * unit;
}

/** Links between GPUs whose rate can be given. */
const RATES = ["transfer", "memory", "staged", "network"] as const;

/** What `plan` takes besides settings. */
export const planFlags: readonly OwnFlag[] = [
  { name: "fit", takes: "12GiB", brief: "Find the fastest memory switches that fit this much GPU memory" },
  { name: "gpu", takes: "NAME", brief: "Forecast the time on this GPU: a known name, or its rates as TFLOPS:GBPS" },
  { name: "hosts", takes: "N", brief: "Machines with `gpus` GPUs each" },
  { name: "links", takes: "measured", brief: "Measure the links between GPUs on this machine" },
  { name: "transfer", takes: "GB/s", brief: "Rate between a GPU and its host" },
  { name: "memory", takes: "GB/s", brief: "Rate of the exchange in shared memory" },
  { name: "staged", takes: "GB/s", brief: "Rate between the host's copy and shared memory" },
  { name: "network", takes: "GB/s", brief: "Rate between hosts" },
];

/** Reads a positive number; `unit` is for the message. */
function parsePositive(name: string, text: string, unit: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new UserError(`--${name} is "${text}": expected ${unit}`, `as --${name} 4`);
}

/** Takes the options of this command out of the settings. */
export function planOptions(words: readonly string[]): { options: PlanRequest; settings: readonly string[] } {
  const { own, settings } = takeOwn(words, planFlags);
  const [fit, gpu, hosts, source] = [own.get("fit"), own.get("gpu"), own.get("hosts"), own.get("links")];
  if (source !== undefined && source !== "measured") {
    throw new UserError(
      `--links is "${source}": expected measured`,
      `rates that you know are given one by one: ${RATES.map((name) => `--${name} GB/s`).join(", ")}`,
    );
  }
  const links = RATES.flatMap((name) => {
    const text = own.get(name);
    return text === undefined ? [] : [[name, 1e9 * parsePositive(name, text, "gigabytes per second")] as const];
  });
  return {
    options: {
      ...(fit === undefined ? {} : { fitBytes: parseMemory(fit) }),
      ...(gpu === undefined ? {} : { gpu }),
      ...(hosts === undefined ? {} : { hosts: Math.ceil(parsePositive("hosts", hosts, "a number of machines")) }),
      ...(source === undefined ? {} : { measure: true }),
      ...(links.length === 0 ? {} : { links: Object.fromEntries(links) }),
    },
    settings,
  };
}

/** Runs the command; returns the exit code. */
export async function planCommand(
  { commands, terminal, json }: Environment,
  words: readonly string[],
): Promise<number> {
  const { options, settings } = planOptions(words);
  const { config, notes } = await requireConfig(await collectConfig(configArguments(settings)), { training: false });
  for (const note of notes) terminal.writeError(`note: ${note}\n`);
  const { lines, figures } = await commands.plan(config, options);
  if (json) terminal.json({ type: "plan", ...figures });
  else terminal.write(`${lines.join("\n")}\n`);
  return 0;
}
