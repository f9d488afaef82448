/** The known name a misspelt one was most likely meant to be. */
import { distance } from "fastest-levenshtein";

/** The letters of a text in alphabetical order. */
function letters(text: string): string {
  return [...text].sort().join("");
}

/** The name of `known` nearest to `name`, or undefined when none is near enough to be a likely slip. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  const plain = (text: string) => text.toLowerCase().replaceAll("-", "_");
  let best: string | undefined;
  // More than a third of the letters wrong is another word rather than a slip.
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const [a, b] = [plain(name), plain(candidate)];
    // Two edits that leave the letters the same swap neighbours, which is one slip.
    const edits = distance(a, b) - (letters(a) === letters(b) ? 1 : 0);
    if (edits < bestDistance) [best, bestDistance] = [candidate, edits];
  }
  return best;
}

/** " (did you mean ...?)", or nothing when no known name is near. */
export function didYouMean(name: string, known: Iterable<string>): string {
  const nearest = nearestName(name, known);
  return nearest === undefined ? "" : `; did you mean "${nearest}"?`;
}
