/** The printed form of a LoRA report. */
import type { LoraModule, LoraReport } from "./lora_inspect.ts";
import { formatTable } from "./text.ts";

/** Lines that describe the file, then one line per module. */
export function loraLines(report: LoraReport): string[] {
  const { modules, targets, strays, metadata } = report;
  const distinct = (value: (module: LoraModule) => unknown) => [...new Set(modules.map(value))].join(", ");
  const alphas = distinct(({ alpha }) => alpha ?? "not stored: loaders assume alpha = rank");
  const total = modules.reduce((sum, { rank, inFeatures, outFeatures }) => sum + rank * (inFeatures + outFeatures), 0);
  const wrong = modules.filter(({ norm }) => !Number.isFinite(norm)).length;
  const rows = modules.map(({ name, rank, inFeatures, outFeatures, dtype, alpha, norm }) => {
    return [name, rank, alpha ?? "-", `${inFeatures} -> ${outFeatures}`, dtype, norm.toPrecision(4)];
  });
  return [
    `Modules:    ${modules.length} (${total.toLocaleString("en-US")} parameters)`,
    `Targets:    ${targets.join(", ")}`,
    `Rank:       ${distinct(({ rank }) => rank)}`,
    `Alpha:      ${alphas}`,
    `Dtype:      ${distinct(({ dtype }) => dtype)}`,
    `Metadata:   ${metadata.size === 0 ? "none" : [...metadata.keys()].join(", ")}`,
    ...(strays.length === 0 ? [] : [`Other keys: ${strays.join(", ")}`]),
    ...(wrong === 0 ? [] : [`Warning:    ${wrong} modules hold NaN or infinity`]),
    "",
    ...formatTable(["module", "rank", "alpha", "in -> out", "dtype", "norm of update"], rows),
  ];
}
