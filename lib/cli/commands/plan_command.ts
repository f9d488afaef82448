/** `cogtune plan`: reads the config and the flags of its own, prints the forecast. */
import { UserError } from "../../errors.ts";
import { loadConfig } from "../../config/config.ts";
import { configArguments } from "../settings/arguments.ts";
import type { PlanRequest } from "../machine/commands.ts";
import type { Environment } from "../machine/environment.ts";

/** Sizes as people write them; without a unit GiB are meant, as in `gpu_memory`. */
const units: Readonly<Record<string, number>> = { "": 2 ** 30, gib: 2 ** 30, mib: 2 ** 20, gb: 1e9, mb: 1e6 };

/** Reads `12GiB`, `24 GB` or `12`. */
export function parseMemory(text: string): number {
  const match = /^([0-9]+\.?[0-9]*)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match === null ? undefined : units[match[2]!.toLowerCase()];
  if (match === null || unit === undefined || Number(match[1]) === 0) {
    throw new UserError(`--fit is "${text}": expected an amount of GPU memory, as 12GiB`);
  }
  return Number(match[1]) * unit;
}

/** Words that are options of this command rather than settings of a run. */
const RATES = ["transfer", "memory", "staged", "network"] as const;
const OWN = ["fit", "gpu", "hosts", "links", ...RATES] as const;

/** Reads a positive number; `unit` is for the message. */
function parsePositive(name: string, text: string, unit: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new UserError(`--${name} is "${text}": expected ${unit}`);
}

/** Takes the options of this command out of the settings. */
export function planOptions(words: readonly string[]): { options: PlanRequest; settings: string[] } {
  const own = new Map(OWN.flatMap((name) => {
    const word = words.findLast((word) => word.startsWith(`${name}=`));
    return word === undefined ? [] : [[name, word.slice(name.length + 1)] as const];
  }));
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
    settings: words.filter((word) => !OWN.some((name) => word.startsWith(`${name}=`))),
  };
}

/** Runs the command; returns the exit code. */
export async function planCommand({ commands, terminal }: Environment, words: readonly string[]): Promise<number> {
  const { options, settings } = planOptions(words);
  const { config, notes } = await loadConfig(configArguments(settings));
  for (const note of notes) terminal.writeError(`note: ${note}\n`);
  terminal.write(`${(await commands.plan(config, options)).join("\n")}\n`);
  return 0;
}
