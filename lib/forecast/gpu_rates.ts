/**
 * What GPUs can do at most, for the time a forecast gives. Makers' figures: f32 vector arithmetic (all sums are f32),
 * memory, link.
 */
import { UserError } from "../errors.ts";
import type { Rates } from "../plan/recording.ts";

/** TFLOP/s in f32 and GB/s of memory. */
const known: Readonly<Record<string, readonly [teraflops: number, gigabytes: number]>> = {
  "a10": [31.2, 600],
  "a100": [19.5, 2039],
  "a6000": [38.7, 768],
  "arc-a770": [19.7, 560],
  "arc-b580": [14.6, 456],
  "b200": [74.5, 8000],
  "h100": [66.9, 3350],
  "h200": [66.9, 4800],
  "l4": [30.3, 300],
  "l40s": [91.6, 864],
  "m2-max": [13.6, 400],
  "m4-max": [18.4, 546],
  "mi300x": [163.4, 5300],
  "rtx-3060": [12.7, 360],
  "rtx-3090": [35.6, 936],
  "rtx-4060-ti": [22.1, 288],
  "rtx-4070": [29.1, 504],
  "rtx-4080": [48.7, 717],
  "rtx-4090": [82.6, 1008],
  "rtx-5080": [56.3, 960],
  "rtx-5090": [104.8, 1792],
  "rx-7900-xtx": [61.4, 960],
  "t4": [8.1, 320],
  "v100": [15.7, 900],
};

/** PCIe 4.0 x16 reaches about 25 GB/s; half of it is left when the host copies through staging memory. */
const LINK_BYTES_PER_SECOND = 12e9;

/** Names that {@linkcode gpuRates} knows. */
export const knownGpus: readonly string[] = Object.keys(known);

/** Words behind the name of a card that make it another one, with other rates. */
const VARIANT = /^(d|gre|laptop|max|mobile|nvl|pcie|super|ti|xt|xtx)$/;

/** Rates of the GPU that a driver describes, as "NVIDIA GeForce RTX 4090"; undefined when they are not known. */
export function knownRates(description: string): Rates | undefined {
  const words = description.toLowerCase().replaceAll(/\((r|tm)\)/g, "").split(/[^a-z0-9]+/);
  const name = knownGpus.find((name) => {
    const parts = name.split("-");
    const at = words.findIndex((_, start) => parts.every((part, i) => words[start + i] === part));
    return at >= 0 && !VARIANT.test(words[at + parts.length] ?? "");
  });
  return name === undefined ? undefined : gpuRates(name);
}

/**
 * Rates of a GPU by name (`rtx-4090`), or as `TFLOPS:GBPS` (`82.6:1008`), optionally with the link's GB/s as a third
 * figure.
 *
 * @throws {UserError} naming the GPUs there are.
 */
export function gpuRates(gpu: string): Rates {
  const name = gpu.toLowerCase().replace(/^(nvidia|geforce|radeon|amd|intel)[ -]/, "").replaceAll(/[ _]/g, "-");
  const figures: readonly number[] = known[name] ?? gpu.split(":").map(Number);
  const [teraflops, gigabytes, link] = figures;
  if (figures.length < 2 || figures.length > 3 || !figures.every((figure) => figure > 0)) {
    throw new UserError(
      `gpu is "${gpu}": expected a known name, or figures as TFLOPS:GBPS`,
      `known: ${knownGpus.join(", ")}; for another one give its f32 rate and memory rate, for instance 82.6:1008`,
    );
  }
  return {
    flopsPerSecond: teraflops! * 1e12,
    bytesPerSecond: gigabytes! * 1e9,
    linkBytesPerSecond: link === undefined ? LINK_BYTES_PER_SECOND : link * 1e9,
  };
}
