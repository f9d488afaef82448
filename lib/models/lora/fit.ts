/** Whether a LoRA belongs to a model: adapters of another family load without a word and only make noise. */
import { UserError, UserErrors } from "../../errors.ts";
import { baseModel, baseName, familiesOfWidth } from "./base.ts";
import type { LoraFile } from "./read.ts";
import { parameterShapes, type TransformerConfig } from "../transformer/config.ts";

/** Which layers a LoRA changes in a model. */
export interface LoraFit {
  /** Layers that the file and the model have. */
  readonly matched: readonly string[];
  /** Layers of the file that the model lacks. */
  readonly unmatched: readonly string[];
  /** Layers of the model that the file's targets name but the file lacks. */
  readonly uncovered: readonly string[];
}

/** A LoRA's layers without the tensors. */
type Fitting = Pick<LoraFile, "path" | "modules" | "base" | "targets">;

/**
 * Compares a LoRA with a model.
 *
 * @param where the model's folder, for messages.
 * @throws {UserError} when the LoRA was made for another model, naming both; {UserErrors} when shapes differ.
 */
export function fitLora({ path, modules, base, targets }: Fitting, config: TransformerConfig, where: string): LoraFit {
  const target = baseModel(config);
  const hint = "use the LoRA with the model it was trained on";
  if (base !== undefined && base.digest !== target.digest) {
    const [made, found] = [baseName(base), baseName(target)];
    throw new UserError(
      `"${path}" was trained on ${made}, but "${where}" is ${made === found ? `another ${found}` : found}`,
      hint,
    );
  }
  const shapes = parameterShapes(config);
  const matched: string[] = [];
  const unmatched: string[] = [];
  const problems: string[] = [];
  for (const [layer, { inFeatures, outFeatures }] of modules) {
    const shape = shapes.get(`${layer}.weight`);
    if (shape === undefined || shape.length < 2) unmatched.push(layer);
    else if (shape[0] !== outFeatures || shape.slice(1).reduce((a, b) => a * b, 1) !== inFeatures) {
      problems.push(
        `"${layer}" changes a weight [${outFeatures}, ${inFeatures}], the model's is [${shape.join(", ")}]`,
      );
    } else matched.push(layer);
  }
  if (problems.length > 0) {
    const what = `"${path}" was made for ${madeFor(modules)}, but "${where}" is ${baseName(target)}`;
    const more = problems.length - 4;
    throw new UserErrors(what, more > 0 ? [...problems.slice(0, 4), `and ${more} more`] : problems, hint);
  }
  const uncovered = [...shapes].filter(([, shape]) => shape.length > 1)
    .map(([name]) => name.replace(/\.weight$/, ""))
    .filter((layer) => !modules.has(layer) && targets.some((end) => layer === end || layer.endsWith(`.${end}`)));
  return { matched, unmatched, uncovered };
}

/** The model a file without a note about it was made for, as far as its shapes tell. */
function madeFor(modules: LoraFile["modules"]): string {
  const attention = [...modules].find(([layer]) => layer.includes(".attn1."))?.[1];
  if (attention === undefined) return "a model of other sizes";
  const families = familiesOfWidth(attention.inFeatures);
  const known = families.length === 0 ? "" : `, as ${families.join(", ")}`;
  return `a model of width ${attention.inFeatures}${known}`;
}
