/** Adapters that begin where a LoRA file ends. */
import { UserErrors } from "../../errors.ts";
import { type Lora, type LoraValues, resizeMatrix } from "./adapters.ts";
import type { LoraFile } from "./read.ts";

/**
 * Starting values that apply the same update as the file. Where the scale alpha / rank differs from the file's, B makes
 * up for it; a higher rank than the file's starts with the `initial` rows of A and zeros in B. The norms of a DoRA are
 * taken as they are. The file fits the model.
 *
 * @throws {UserErrors} listing layers of the file that are not adapted, and ranks that are too small.
 */
export function startFromFile(
  { layers, config }: Lora,
  { path, modules }: Pick<LoraFile, "path" | "modules">,
  initial: LoraValues,
): LoraValues {
  const problems = [...modules].flatMap(([layer, { rank }]) => {
    const own = layers.get(layer);
    if (own === undefined) return [`"${layer}" is adapted in the file, but target_modules leaves it out`];
    return own.rank < rank ? [`"${layer}" has rank ${rank} in the file, but rank ${own.rank} here`] : [];
  });
  if (config.decomposed !== true && [...modules.values()].some(({ magnitude }) => magnitude !== undefined)) {
    problems.push("the file is a DoRA, whose norms a plain LoRA has no place for: set use_dora");
  }
  if (problems.length > 0) {
    const more = problems.length - 6;
    throw new UserErrors(
      `Cannot start from "${path}"`,
      more > 0 ? [...problems.slice(0, 6), `and ${more} more`] : problems,
      "choose target_modules and rank so that they hold all of the file; a higher rank is fine",
    );
  }
  const values = new Map(initial);
  for (const [layer, { rank, alpha, outFeatures, down, up, magnitude }] of modules) {
    const own = layers.get(layer)!;
    const a = new Float32Array(initial.get(`${layer}.lora_A.weight`)!);
    a.set(down);
    const factor = alpha / rank / (own.alpha / own.rank);
    const b = resizeMatrix(up.map((value) => value * factor), [outFeatures, rank], [outFeatures, own.rank]);
    values.set(`${layer}.lora_A.weight`, a).set(`${layer}.lora_B.weight`, b);
    if (magnitude !== undefined) values.set(`${layer}.lora_magnitude_vector`, magnitude);
  }
  return values;
}
