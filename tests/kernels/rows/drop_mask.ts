/** Which elements dropout keeps, by pcg4d (Jarzynski and Olano, 2020) in integers of JavaScript. */

function pcg4d(key: readonly number[]): number[] {
  const v = key.map((word) => (Math.imul(word, 1664525) + 1013904223) >>> 0);
  const mix = () => {
    for (const [to, a, b] of [[0, 1, 3], [1, 2, 0], [2, 0, 1], [3, 1, 2]] as const) {
      v[to] = (v[to]! + Math.imul(v[a]!, v[b]!)) >>> 0;
    }
  };
  mix();
  v.forEach((word, i) => v[i] = (word ^ (word >>> 16)) >>> 0);
  mix();
  return v;
}

/** One truth value an element: four share a draw. */
export function dropMask(
  elements: number,
  { first, layer, rate }: { readonly first: number; readonly layer: number; readonly rate: number },
  [low, high]: readonly [low: number, high: number],
): boolean[] {
  return Array.from({ length: elements / 4 }, (_, at) => pcg4d([first / 4 + at, layer, low, high])).flat()
    .map((word) => word >= Math.floor(rate * 2 ** 32));
}
