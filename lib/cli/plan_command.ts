/** `cogtune plan`: reads the config and the two flags of its own, prints the forecast. */
import { UserError } from "../errors.ts";
import { loadConfig } from "../train/config.ts";
import { configArguments } from "./arguments.ts";
import type { PlanOptions } from "./commands.ts";
import type { Environment } from "./environment.ts";

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

/** Takes the words `fit=...` and `gpu=...` out of the settings. */
export function planOptions(words: readonly string[]): { options: PlanOptions; settings: string[] } {
  const valueOf = (name: string) => words.findLast((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
  const [fit, gpu] = [valueOf("fit"), valueOf("gpu")];
  return {
    options: {
      ...(fit === undefined ? {} : { fitBytes: parseMemory(fit) }),
      ...(gpu === undefined ? {} : { gpu }),
    },
    settings: words.filter((word) => !/^(fit|gpu)=/.test(word)),
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
