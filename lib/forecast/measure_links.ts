/** Measures on this machine the rates that a forecast of several GPUs needs. */
import { countGpus, pinGpus, type RankEnvironment } from "../comm/gpus/gpus.ts";
import { launch } from "../comm/launch/launcher.ts";
import { readReport } from "../comm/launch/report_line.ts";
import type { HostRates } from "./link_probe.ts";

/**
 * Runs `ranks` processes for about two seconds: exchanges among them as in training, and, where there are GPUs (or a
 * software adapter), copies to and from as many as there are. With one rank there is nothing to exchange, and without
 * an adapter nothing to copy: those rates are absent.
 */
export async function measureLinks(ranks: number): Promise<HostRates> {
  const environments = await cardsFor(ranks);
  const lines: string[] = [];
  let rates: unknown;
  const { cause } = await launch({
    module: new URL("./measure_links_rank.ts", import.meta.url),
    args: [String(environments.length)],
    size: ranks,
    environments,
    onLine({ text }) {
      const report = readReport(text);
      if (report === undefined) lines.push(text);
      else rates = report;
    },
  });
  if (cause !== undefined) throw new Error(`Cannot measure links: ${cause}\n${lines.join("\n")}`);
  return rates as HostRates;
}

/** The environments in which the first ranks find a card of their own: as many as there are, none without a driver. */
async function cardsFor(ranks: number): Promise<readonly RankEnvironment[]> {
  try {
    return await pinGpus(ranks);
  } catch {
    try {
      return await pinGpus(await countGpus());
    } catch {
      return [];
    }
  }
}
