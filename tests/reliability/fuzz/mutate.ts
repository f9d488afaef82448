/** Changes of bytes as fuzzers make them: bits, bytes, runs that are repeated, removed or moved, and words of the format. */

/** Whole numbers from 0 to `limit - 1`. */
export type Pick = (limit: number) => number;

/** Numbers that are the edges of something. */
const EDGES = ["0", "-1", "-0", "1e3", "0.5", "4294967296", "9007199254740993", "18446744073709551616", "1e999", "NaN"];

const encoder = new TextEncoder();

/** One to eight random changes of one of `seeds`; `words` are bytes that mean something to who reads them. */
export function mutate(seeds: readonly Uint8Array[], words: readonly string[], pick: Pick): Uint8Array {
  let bytes = seeds[pick(seeds.length)]!;
  for (let i = 1 + pick(4) * pick(3); i > 0; i--) bytes = changed(bytes, seeds, words, pick);
  return bytes;
}

function changed(bytes: Uint8Array, seeds: readonly Uint8Array[], words: readonly string[], pick: Pick): Uint8Array {
  const at = pick(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + pick(1 + pick(32)));
  switch (pick(8)) {
    case 0: {
      const copy = bytes.slice();
      copy[at]! ^= 1 << pick(8);
      return copy;
    }
    case 1: {
      const copy = bytes.slice();
      copy[at] = pick(256);
      return copy;
    }
    case 2:
      return replaced(bytes, at, end, new Uint8Array());
    case 3:
      return replaced(bytes, end, end, bytes.subarray(at, end));
    case 4:
      return replaced(bytes, at, pick(2) === 0 ? at : end, encoder.encode(words[pick(words.length)]));
    case 5:
      return replaced(bytes, at, end, encoder.encode(EDGES[pick(EDGES.length)]));
    case 6: {
      const other = seeds[pick(seeds.length)]!;
      return replaced(bytes, at, bytes.length, other.subarray(pick(other.length + 1)));
    }
    default:
      return bytes.subarray(0, at);
  }
}

function replaced(bytes: Uint8Array, from: number, to: number, by: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length - (to - from) + by.length);
  out.set(bytes.subarray(0, from));
  out.set(by, from);
  out.set(bytes.subarray(to), from + by.length);
  return out;
}

/** The shortest input found by leaving out runs for which `fails` still holds. */
export function minimised(bytes: Uint8Array, fails: (bytes: Uint8Array) => boolean): Uint8Array {
  for (let run = bytes.length >> 1; run > 0; run >>= 1) {
    for (let at = 0; at + run <= bytes.length;) {
      const shorter = replaced(bytes, at, at + run, new Uint8Array());
      if (fails(shorter)) bytes = shorter;
      else at += run;
    }
  }
  return bytes;
}
