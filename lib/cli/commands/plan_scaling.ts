/** What `plan` says of several GPUs: what they exchange, at which rates, and what that leaves for training. */
import { roofline } from "../../plan/recording.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { ForecastOptions, RecordedForecast } from "../../forecast/forecast.ts";
import { gpuRates } from "../../forecast/gpu_rates.ts";
import { measureLinks } from "../../forecast/measure_links.ts";
import { forecastScaling, type LinkRates, type ScalingForecast, USUAL_LINKS } from "../../forecast/scaling.ts";
import type { PlanRequest } from "../machine/commands.ts";
import { formatBytes, formatTable } from "../show/text.ts";

/**
 * The share is of steps at the peak rates of GPUs: real ones take longer, so that less of their time goes to the
 * exchange.
 */
export async function scalingReport(
  config: TrainConfig,
  { phases }: RecordedForecast,
  gpus: readonly string[],
  { hosts = 1, links = {}, measure = false, model }: PlanRequest & Pick<ForecastOptions, "model">,
): Promise<{ readonly lines: readonly string[]; readonly exchange: ScalingForecast }> {
  const measured = measure ? await measureLinks(config.gpus) : {};
  const rates: LinkRates = { ...USUAL_LINKS, ...measured, ...links };
  const exchange = forecastScaling(config, hosts, rates, model === undefined ? {} : { model });
  const { ranks, bytesPerRank, bytesPerHost, transferBytes, seconds } = exchange;
  const training = phases.find(({ name }) => name === "training")!;
  const rows = gpus.map((name) => {
    const step = training.work.reduce(
      (sum, { recording, runs }) => sum + runs * roofline(recording, gpuRates(name)),
      0,
    );
    return [`  ${name}`, `${step.toPrecision(3)} s`, `${(100 * step / (step + seconds)).toFixed(0)} %`];
  });
  const sourceOf = (name: keyof LinkRates) => name in links ? "given" : name in measured ? "measured" : "usual";
  const shown = (["transfer", "memory", "staged", "network"] as const)
    .filter((name) => name === "network" ? hosts > 1 : name === "transfer" || config.gpus > 1)
    .map((name) => `${name} ${(rates[name] / 1e9).toPrecision(3)} (${sourceOf(name)})`);
  const network = bytesPerHost === 0 ? "" : `, ${formatBytes(bytesPerHost)} from host to host`;
  const cores = navigator.hardwareConcurrency;
  const lines = [
    "",
    `${ranks} ranks exchange ${formatBytes(bytesPerRank)} each per step${network}, ` +
    `${formatBytes(transferBytes)} between GPU and host: ${seconds.toPrecision(3)} s`,
    `  links in GB/s per rank: ${shown.join(", ")}`,
    ...(measure ? [`  measured with ${config.gpus} processes on the ${cores} cores of this machine`] : []),
    ...formatTable(["  GPU", "step", "efficiency"], rows),
  ];
  return { lines, exchange };
}
