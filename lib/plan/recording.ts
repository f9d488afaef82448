/** A finished plan: dead launches dropped, memory assigned, cost known. What `lib/gpu` executes and `plan` prints. */
import type { Launch, TexelFormat } from "../../kernels/core/kernel.ts";
import { assignMemory, type MemoryMap } from "./memory.ts";
import type { RecordingLimits } from "./limits.ts";
import { divideLaunch } from "./pieces.ts";
import type { Plan, Step } from "./plan.ts";
import { align, type Tensor } from "./tensor.ts";
import { TEXEL_FORMATS, textureRowBytes, type TextureRows, textureRows, throughTextures } from "./textures.ts";

/** A plan ready to be executed or priced. */
export interface Recording {
  readonly steps: readonly Step[];
  /**
   * What the device runs for each step: its launch, divided where tensors take several bindings. Transfers have none.
   */
  readonly launches: readonly (Launch | undefined)[];
  readonly memory: MemoryMap;
  /** Rows of the textures that operands are read through. */
  readonly textures: TextureRows;
  /** Resident tensors on the GPU that the steps touch (owners, each once, in order of first use). */
  readonly residents: readonly Tensor[];
  /** Host tensors that the steps copy from or to (owners, each once, in order of first use). */
  readonly hosts: readonly Tensor[];
  /**
   * Distinct uniform blocks: launches with equal parameters share one. `uniformOf[i]` belongs to `steps[i]`; transfers
   * have -1.
   */
  readonly uniforms: readonly { readonly launch: Launch; readonly offset: number }[];
  readonly uniformOf: readonly number[];
}

/** Bytes between uniform blocks: the alignment every device accepts for uniform offsets. */
export const UNIFORM_STRIDE = 256;

/**
 * Finishes a plan.
 *
 * @throws {RangeError} naming a launch that the device can't bind, see {@linkcode divideLaunch}.
 */
export function finish(plan: Plan, limits: RecordingLimits): Recording {
  plan.release();
  const steps = throughTextures(dropDead(plan.steps, plan.outputs), limits);
  const residents = new Set<Tensor>();
  const hosts = new Set<Tensor>();
  for (const step of steps) {
    for (const tensor of step.tensors) {
      if (tensor.resident) (tensor.host ? hosts : residents).add(tensor.owner);
    }
  }
  const launches = steps.map((step) =>
    step.kind === "launch" ? divideLaunch(step.launch, step.tensors, limits) : undefined
  );
  const uniforms: { launch: Launch; offset: number }[] = [];
  const known = new Map<string, number>();
  const uniformOf = launches.map((launch) => {
    if (launch === undefined) return -1;
    const key = `${launch.kernel.params}|${launch.params}`;
    let index = known.get(key);
    if (index === undefined) {
      index = uniforms.length;
      uniforms.push({ launch, offset: index * UNIFORM_STRIDE });
      known.set(key, index);
    }
    return index;
  });
  return {
    steps,
    launches,
    memory: assignMemory(steps, plan.outputs, limits),
    textures: textureRows(steps),
    residents: [...residents],
    hosts: [...hosts],
    uniforms,
    uniformOf,
  };
}

/** Steps that write only transients nobody reads later are dropped, repeatedly by walking from the end. */
function dropDead(steps: readonly Step[], outputs: ReadonlySet<Tensor>): Step[] {
  const live = new Set<Tensor>(outputs);
  const kept: Step[] = [];
  for (const step of steps.toReversed()) {
    if (!step.writes.some(({ owner }) => owner.resident || live.has(owner))) continue;
    for (const { owner } of step.tensors) live.add(owner);
    kept.push(step);
  }
  return kept.reverse();
}

/** Sizes of the buffers of an arena that serves several recordings, one at a time. */
export function arenaChunks(recordings: readonly Recording[]): number[] {
  const count = Math.max(0, ...recordings.map(({ memory }) => memory.chunks.length));
  return Array.from({ length: count }, (_, i) => Math.max(...recordings.map(({ memory }) => memory.chunks[i] ?? 0)));
}

/** Rows of the textures of such an arena. */
export function arenaTextures(recordings: readonly Recording[]): TextureRows {
  const most = (format: TexelFormat) => {
    const count = Math.max(0, ...recordings.map(({ textures }) => textures[format].length));
    return Array.from(
      { length: count },
      (_, i) => Math.max(...recordings.map(({ textures }) => textures[format][i] ?? 0)),
    );
  };
  return { rgba32float: most("rgba32float"), rg32uint: most("rg32uint") };
}

/** Bytes of an arena that serves several recordings, one at a time. */
export function arenaBytes(recordings: readonly Recording[]): number {
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const textures = arenaTextures(recordings);
  const ofTextures = TEXEL_FORMATS.map((format) => textureRowBytes(format) * sum(textures[format]));
  return sum(arenaChunks(recordings)) + sum(ofTextures);
}

/** What a recording costs, from shapes alone. */
export interface Cost {
  readonly launches: number;
  readonly flops: number;
  /** Bytes of all bindings, each counted once per launch: a lower bound of the traffic. */
  readonly trafficBytes: number;
  readonly arenaBytes: number;
  readonly residentBytes: number;
  readonly uniformBytes: number;
  /** Host memory of the tensors that live there. */
  readonly hostBytes: number;
  /** Bytes copied to the GPU and back by the steps of one run. */
  readonly uploadBytes: number;
  readonly downloadBytes: number;
}

/** Prices a recording. */
export function cost(recording: Recording): Cost {
  let flops = 0;
  let trafficBytes = 0;
  let launches = 0;
  let uploadBytes = 0;
  let downloadBytes = 0;
  for (const step of recording.steps) {
    if (step.kind === "transfer") {
      const [from, to] = step.tensors;
      if (from.host) uploadBytes += from.bytes;
      else downloadBytes += to.bytes;
      continue;
    }
    launches++;
    flops += step.launch.flops;
    for (const tensor of step.tensors) trafficBytes += tensor.bytes;
  }
  const total = (tensors: readonly Tensor[]) => tensors.reduce((sum, tensor) => sum + align(tensor.bytes), 0);
  return {
    launches,
    flops,
    trafficBytes,
    arenaBytes: arenaBytes([recording]),
    residentBytes: total(recording.residents),
    uniformBytes: Math.max(1, recording.uniforms.length) * UNIFORM_STRIDE,
    hostBytes: total(recording.hosts),
    uploadBytes,
    downloadBytes,
  };
}

/** Rates of a GPU. */
export interface Rates {
  readonly flopsPerSecond: number;
  readonly bytesPerSecond: number;
  /** Of the link to the host. */
  readonly linkBytesPerSecond: number;
}

/**
 * Seconds the recording takes if every launch ran at the roofline and no copy overlapped with it. `measured` are
 * seconds by keys of problems, which stand for the roofline where they are known.
 */
export function roofline(
  recording: Recording,
  { flopsPerSecond, bytesPerSecond, linkBytesPerSecond }: Rates,
  measured: ReadonlyMap<string, number> = new Map(),
): number {
  let seconds = 0;
  for (const step of recording.steps) {
    if (step.kind === "transfer") {
      seconds += step.tensors[0].bytes / linkBytesPerSecond;
      continue;
    }
    const bytes = step.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    const { problem, flops } = step.launch;
    seconds += measured.get(problem?.key ?? "") ?? Math.max(flops / flopsPerSecond, bytes / bytesPerSecond);
  }
  return seconds;
}
