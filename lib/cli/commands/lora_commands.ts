/** What the `lora` commands do and print. */
import { resolve } from "node:path";
import { UserError } from "../../errors.ts";
import type { StorageType } from "../../io/safetensors/half.ts";
import { localModelPath } from "../../models/folder/hub.ts";
import { isWeak } from "../../models/lora/adapters.ts";
import { baseModel, baseName } from "../../models/lora/base.ts";
import { extractLora } from "../../models/lora/extract.ts";
import { writeModules } from "../../models/lora/file.ts";
import { fitLora } from "../../models/lora/fit.ts";
import type { LoraFormat } from "../../models/lora/keys.ts";
import { type LoraFile, readLora } from "../../models/lora/read.ts";
import { describeStrays } from "../../models/lora/notes.ts";
import { type LoraEffect, verifyLora } from "../../models/lora/verify.ts";
import { mergeLora, storedTypes } from "../../models/lora/merge_into_weights.ts";
import { type OpenTransformer, openTransformer, writeTransformer } from "../../models/transformer/file.ts";
import type { Environment } from "../machine/environment.ts";
import { alphaText, inspectFigures, inspectLines } from "./lora_inspect.ts";
import type { Terminal } from "../machine/terminal.ts";
import { formatTable } from "../show/text.ts";

/** Flags several commands share. */
export interface LoraFlags {
  readonly model_path: string;
  readonly output: string;
  readonly alpha?: number;
  readonly dtype?: StorageType;
}

/** `lora inspect FILE`. */
export function inspectCommand({ terminal, json }: Environment, path: string): void {
  const file = readLora(path);
  if (json) terminal.json({ type: "lora inspect", ...inspectFigures(file) });
  else print(terminal, inspectLines(file));
}

/** `lora verify FILE`: 0, or 1 when the LoRA changes nothing. */
export async function verifyCommand(
  terminal: Terminal,
  path: string,
  { model_path, alpha }: Pick<LoraFlags, "model_path" | "alpha">,
): Promise<number> {
  const lora = readLora(path, { alpha });
  using model = openTransformer(await localModelPath(model_path));
  const effect = verifyLora(lora, model);
  print(terminal, verifyLines(lora, model, effect));
  noteAlpha(terminal, lora);
  if (effect.applies) return 0;
  const why = effect.changes.length === 0 ? "none of its layers is in the model" : "every update is zero";
  terminal.writeError(`error: "${lora.path}" changes nothing: ${why}\n`);
  return 1;
}

function verifyLines(lora: LoraFile, model: OpenTransformer, { fit, changes }: LoraEffect): string[] {
  const { matched, unmatched, uncovered } = fit;
  const rows = changes.map(({ layer, rank, alpha, change }) => {
    return [layer, rank, alpha, (alpha / rank).toPrecision(3), `${(100 * change).toPrecision(3)}%`];
  });
  return [
    `LoRA:       ${lora.path} (${lora.format})`,
    `Model:      ${baseName(baseModel(model.config))} in ${model.folder}`,
    `Trained on: ${lora.base === undefined ? "not stored" : baseName(lora.base)}`,
    `Alpha:      ${alphaText(lora)}`,
    `Matched:    ${matched.length} of ${lora.modules.size} layers`,
    ...listed("Unmatched: ", unmatched),
    ...listed("Without:   ", uncovered),
    ...describeStrays(lora.strays).map((text) => `Not used:   ${text}`),
    "",
    ...formatTable(["layer", "rank", "alpha", "scale", "change of weight"], rows),
  ];
}

function listed(label: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const more = names.length > 8 ? ` and ${names.length - 8} more` : "";
  return [`${label} ${names.slice(0, 8).join(", ")}${more}`];
}

/** `lora merge FILE`. */
export async function mergeCommand(
  terminal: Terminal,
  path: string,
  flags: LoraFlags & { readonly strength: number },
): Promise<void> {
  const lora = readLora(path, { alpha: flags.alpha });
  using model = openTransformer(await localModelPath(flags.model_path));
  const { matched, unmatched } = fitLora(lora, model.config, model.folder);
  if (matched.length === 0) {
    throw new UserError(
      `"${lora.path}" changes nothing: none of its layers is in "${model.folder}"`,
      "give the model that it was trained on",
    );
  }
  noteAlpha(terminal, lora);
  noteStrays(terminal, lora);
  for (const line of listed("note: not in the model:", unmatched)) terminal.writeError(`${line}\n`);
  const onLayer = counter(terminal, "merging", matched.length);
  const tensors = mergeLora(model.source, lora.modules, { strength: flags.strength, onLayer });
  const dtype = flags.dtype ?? storedTypes(model.source);
  await writeTransformer(flags.output, model.configJson, tensors, { dtype });
  print(terminal, [
    `Merged ${matched.length} layers at strength ${flags.strength} into ${resolve(flags.output)}`,
    `Use it in place of the folder ${resolve(model.folder)}`,
  ]);
}

/** `lora extract TUNED`: 0, or 1 when nothing was trained. */
export async function extractCommand(
  terminal: Terminal,
  path: string,
  flags: Omit<LoraFlags, "alpha"> & { readonly rank: number; readonly target_modules?: readonly string[] },
): Promise<number> {
  using base = openTransformer(await localModelPath(flags.model_path));
  using tuned = openTransformer(path);
  const onLayer = counter(terminal, "decomposing", undefined);
  const options = { rank: flags.rank, targets: flags.target_modules, onLayer };
  const { modules, losses, error, left } = await extractLora(base, tuned, options);
  for (const line of listed("note: changed, but not in the LoRA:", left.map(({ name }) => name))) {
    terminal.writeError(`${line}\n`);
  }
  if (modules.size === 0) {
    terminal.writeError(`error: "${tuned.folder}" and "${base.folder}" have the same values in these layers\n`);
    return 1;
  }
  const written = await writeModules(flags.output, modules, {
    format: "diffusers",
    base: baseModel(base.config),
    ...(flags.dtype && { dtype: flags.dtype }),
  });
  const percent = (value: number) => `${(100 * value).toPrecision(3)}%`;
  print(terminal, [
    ...formatTable(
      ["layer", "change of weight", "missed by the LoRA"],
      losses.map(({ layer, change, error }) => [layer, percent(change), percent(error)]),
    ),
    "",
    `Wrote ${written}: ${modules.size} layers of rank ${flags.rank}, ${percent(error)} of the change is missed`,
  ]);
  return 0;
}

/** `lora export FILE`. */
export async function exportCommand(
  terminal: Terminal,
  path: string,
  flags: Omit<LoraFlags, "model_path"> & { readonly to: LoraFormat; readonly model_path?: string },
): Promise<void> {
  const lora = readLora(path, { alpha: flags.alpha });
  let base = lora.base;
  if (flags.model_path !== undefined) {
    using model = openTransformer(await localModelPath(flags.model_path));
    fitLora(lora, model.config, model.folder);
    base = baseModel(model.config);
  }
  noteAlpha(terminal, lora);
  noteStrays(terminal, lora);
  const written = await writeModules(flags.output, lora.modules, {
    format: flags.to,
    base,
    ...(flags.dtype && { dtype: flags.dtype }),
  });
  const alpha = flags.to === "sat" ? "1, B multiplied by the alpha there was, as SAT assumes 1" : lora.alpha;
  print(terminal, [`Wrote ${written}: ${lora.modules.size} layers, rank ${lora.rank}, alpha ${alpha}`]);
}

/** Says what alpha is taken where the file leaves it open, and warns of one that hardly acts. */
function noteAlpha(terminal: Terminal, lora: LoraFile): void {
  if (!lora.alphaStored) {
    const trainer = lora.format === "sat"
      ? "if SAT was told another one, give it as --alpha"
      : `the original CogVideoX trainer uses rank / 2 unless told otherwise: if so, give --alpha ${lora.rank / 2}`;
    terminal.writeError(
      `note: "${lora.path}" does not state alpha; taking ${lora.alpha} as the loaders of its format do; ${trainer}\n`,
    );
  }
  if (isWeak(lora.alpha / lora.rank)) {
    const scale = (lora.alpha / lora.rank).toPrecision(2);
    terminal.writeError(`note: alpha / rank is ${lora.alpha} / ${lora.rank} = ${scale}: the LoRA hardly acts\n`);
  }
}

/** Names what of a file has no effect. */
function noteStrays(terminal: Terminal, { strays }: LoraFile): void {
  for (const text of describeStrays(strays)) terminal.writeError(`note: not used: ${text}\n`);
}

/** Counts layers on one line of a terminal that a person watches. */
function counter(terminal: Terminal, doing: string, total: number | undefined): (layer: string) => void {
  let count = 0;
  return (layer) => {
    count++;
    terminal.redraw(`${doing} ${count}${total === undefined ? "" : `/${total}`} ${layer}`);
    if (count === total && terminal.columns !== undefined) terminal.write("\n");
  };
}

function print(terminal: Terminal, lines: readonly string[]): void {
  terminal.write(`${lines.join("\n")}\n`);
}
