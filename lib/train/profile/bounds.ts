/** Says in words what bounds a step, and which switches of this program would help. */
import type { FamilyFigures, IdleCause, ProfileFigures } from "./figures.ts";

/** What of a run could be switched. */
export interface Situation {
  /** Storage of activations takes four bytes. */
  readonly fullPrecision: boolean;
  /** Products may round their operands to f16. */
  readonly mixed: boolean;
  /** The engine shows matrix units. */
  readonly matrixUnits: boolean;
  readonly engine: "deno" | "dawn";
  readonly software: boolean;
  /** Kernels were chosen by measuring them. */
  readonly tuned: boolean;
  readonly checkpointing: boolean;
  /** Frozen or trained weights lie in host memory. */
  readonly streamed: boolean;
  readonly offloadActivations: boolean;
  readonly offloadOptimizer: boolean;
  readonly ranks: number;
}

/** Parts of a step that are named: below, other parts matter more. */
const WORTH_NAMING = 0.1;

/** A family that reaches more of a copy's rate than of the peak of its arithmetic waits for memory. */
function waitsForMemory({ arithmeticShare, memoryShare, flopsPerSecond, bytesPerSecond }: FamilyFigures): boolean {
  // Without peaks, the arithmetic per byte decides: cards do some ten operations in the time of a byte and more.
  if (memoryShare === undefined) return flopsPerSecond < 10 * bytesPerSecond;
  if (arithmeticShare === undefined) return memoryShare > 0.5;
  return memoryShare > arithmeticShare;
}

const WHY_IDLE: Readonly<Record<IdleCause, string>> = {
  launches: "the gaps between launches",
  batch: "the host preparing batches",
  upload: "uploads",
  encode: "the host encoding commands",
  wait: "the host waiting for results",
  exchange: "the exchange of gradients",
  other: "other work of the host",
};

const percent = (share: number) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** A part of a step with what can be done about it. */
interface Part {
  readonly milliseconds: number;
  readonly words: string;
  readonly remedies: readonly string[];
}

/**
 * Sentences on an average step: the first names what bounds it, the second what else takes a tenth or more of its time,
 * the others what would help.
 */
export function whatBounds(figures: ProfileFigures, situation: Situation): string[] {
  const { milliseconds, families } = figures;
  const share = (part: Part) => part.milliseconds / milliseconds;
  const parts = [
    ...byBound(families, situation),
    ...Object.entries(figures.idle).map(([cause, time]) => idlePart(cause as IdleCause, time, situation)),
  ].sort((a, b) => b.milliseconds - a.milliseconds);
  const [first, ...others] = parts.filter((part) => part.milliseconds > 0);
  if (first === undefined) return ["Nothing was measured."];
  const named = others.filter((part) => share(part) >= WORTH_NAMING);
  const also = named.map((part) => `${part.words}, ${percent(share(part))}`);
  const remedies = [...new Set([first, ...named].flatMap((part) => part.remedies))];
  const software = "This is a software driver: on a GPU another thing may bound the step";
  return [
    `What bounds the step: ${first.words}, ${percent(share(first))} of its time.`,
    ...(also.length > 0 ? [`Beside it: ${also.join("; ")}.`] : []),
    ...(situation.software ? [`${software}.`] : []),
    ...remedies.map((remedy) => `Would help: ${remedy}.`),
  ];
}

/** The families whose time goes into arithmetic, and those that wait for memory, each named after its slowest. */
function byBound(families: readonly FamilyFigures[], situation: Situation): Part[] {
  const { memory = [], arithmetic = [] } = Object.groupBy(
    families,
    (family) => waitsForMemory(family) ? "memory" : "arithmetic",
  );
  const part = (what: string, of: readonly FamilyFigures[], remedies: readonly string[]): Part[] => {
    const [slowest] = of;
    if (slowest === undefined) return [];
    const { family, arithmeticShare, memoryShare } = slowest;
    const reached = what === "memory traffic" ? memoryShare : arithmeticShare;
    const peak = what === "memory traffic" ? "the measured rate of a copy" : "the measured peak of its arithmetic";
    const words = `${what}, most of it of ${family}${
      reached === undefined ? "" : ` at ${percent(reached)} of ${peak}`
    }`;
    return [{ milliseconds: of.reduce((sum, { milliseconds }) => sum + milliseconds, 0), words, remedies }];
  };
  return [
    ...part("arithmetic", arithmetic, arithmeticRemedies(situation)),
    ...part("memory traffic", memory, memoryRemedies(situation)),
  ];
}

function arithmeticRemedies(situation: Situation): string[] {
  const { fullPrecision, mixed, matrixUnits, engine, tuned, checkpointing, software } = situation;
  const remedies: string[] = [];
  if (!mixed && matrixUnits) {
    remedies.push(
      fullPrecision
        ? "mixed_precision: bf16, with which products run on the matrix units of this card"
        : "matmul_precision: mixed, with which products run on the matrix units of this card",
    );
  }
  if (!matrixUnits && engine === "deno" && !software) {
    remedies.push("engine: dawn, which reaches the matrix units of many cards; `doctor` says whether of this one");
  }
  if (!tuned) remedies.push("tune: always, which takes the fastest kernels of this card by measuring them");
  if (checkpointing) {
    remedies.push(
      "gradient_checkpointing: false, which spares a second forward pass where memory allows it; `plan` says how much it takes",
    );
  }
  return remedies;
}

function memoryRemedies({ fullPrecision, tuned }: Situation): string[] {
  return [
    ...(fullPrecision ? ["mixed_precision: bf16, which halves the bytes of activations and weights"] : []),
    ...(tuned ? [] : ["tune: always, which takes the fastest kernels of this card by measuring them"]),
  ];
}

function idlePart(cause: IdleCause, milliseconds: number, situation: Situation): Part {
  const { engine, streamed, offloadActivations, offloadOptimizer, ranks } = situation;
  const moves = [
    ...(streamed ? ["base_weights: resident, or int8 or nf4 for a LoRA, which leaves the weights on the GPU"] : []),
    ...(offloadActivations ? ["offload_activations: false, which leaves the activations on the GPU"] : []),
    ...(offloadOptimizer ? ["offload_optimizer: false, which leaves the optimizer's state on the GPU"] : []),
  ];
  const larger = "a larger batch_size or train_resolution, which gives every launch more to do";
  const remedies: Readonly<Record<IdleCause, readonly string[]>> = {
    launches: [larger],
    encode: [larger],
    batch: [larger],
    other: [larger],
    upload: moves.length > 0 ? moves : [larger],
    wait: [
      ...moves,
      ...(engine === "deno" ? ["engine: dawn, in which a wait for a result ends after 1 ms and not after 12"] : []),
    ],
    exchange: ranks > 1
      ? ["a larger gradient_accumulation_steps, which exchanges gradients less often for the same clips"]
      : [],
  };
  return { milliseconds, words: `a GPU that idles during ${WHY_IDLE[cause]}`, remedies: remedies[cause] };
}
