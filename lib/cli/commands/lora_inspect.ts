/** What a LoRA file holds: layers, ranks, alpha, and how far each layer moves its weight. */
import { baseName } from "../../models/lora/base.ts";
import { updateNorm } from "../../models/lora/module.ts";
import type { LoraFile } from "../../models/lora/read.ts";
import { describeStrays } from "../../models/lora/notes.ts";
import { formatTable } from "../show/text.ts";

/** How alpha came about, for people: stated by the file, or what loaders take for granted. */
export function alphaText({ alphaStored, format, modules }: LoraFile): string {
  if (!alphaStored) return format === "sat" ? "not stored: SAT assumes 1" : "not stored: loaders assume alpha = rank";
  return distinct([...modules.values()].map(({ alpha }) => alpha));
}

/** Lines that describe the file, then one line per layer. */
export function inspectLines(file: LoraFile): string[] {
  const { modules, targets, strays, metadata } = file;
  const list = [...modules];
  const total = list.reduce((sum, [, { down, up, magnitude }]) => {
    return sum + down.length + up.length + (magnitude?.length ?? 0);
  }, 0);
  const rows = list.map(([layer, module]) => {
    const { rank, inFeatures, outFeatures, alpha } = module;
    const stored = file.alphaStored ? alpha : "-";
    return [layer, rank, stored, `${inFeatures} -> ${outFeatures}`, updateNorm(module).toPrecision(4)];
  });
  return [
    `Format:     ${file.format}`,
    ...(list.some(([, { magnitude }]) => magnitude !== undefined)
      ? ["Kind:       DoRA: rows have norms of their own"]
      : []),
    `Layers:     ${modules.size} (${total.toLocaleString("en-US")} parameters)`,
    `Targets:    ${targets.join(", ")}`,
    `Rank:       ${distinct(list.map(([, { rank }]) => rank))}`,
    `Alpha:      ${alphaText(file)}`,
    `Dtype:      ${file.dtypes.join(", ")}`,
    `Base model: ${file.base === undefined ? "not stored" : baseName(file.base)}`,
    `Metadata:   ${metadata.size === 0 ? "none" : [...metadata.keys()].join(", ")}`,
    ...describeStrays(strays).map((text) => `Not used:   ${text}`),
    "",
    ...formatTable(["layer", "rank", "alpha", "in -> out", "norm of update"], rows),
  ];
}

/** The same for programs; `alpha` is null where the file does not state it. */
export function inspectFigures(file: LoraFile): Readonly<Record<string, unknown>> {
  const layers = [...file.modules].map(([layer, module]) => {
    const { rank, inFeatures, outFeatures, alpha } = module;
    return { layer, rank, alpha: file.alphaStored ? alpha : null, inFeatures, outFeatures, norm: updateNorm(module) };
  });
  const { path, format, targets, dtypes, base = null, strays } = file;
  return { path, format, targets, dtypes, base, strays, metadata: Object.fromEntries(file.metadata), layers };
}

function distinct(values: readonly number[]): string {
  return [...new Set(values)].join(", ");
}
