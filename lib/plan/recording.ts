/** A finished plan: dead launches dropped, memory assigned, cost known. What `lib/gpu` executes and `plan` prints. */
import { assignMemory, type MemoryMap } from "./memory.ts";
import type { Plan, Step } from "./plan.ts";
import { align, type Tensor } from "./tensor.ts";

/** A plan ready to be executed or priced. */
export interface Recording {
  readonly steps: readonly Step[];
  readonly memory: MemoryMap;
  /** Resident tensors the steps touch (owners, each once, in order of first use). */
  readonly residents: readonly Tensor[];
  /** Distinct uniform blocks: launches with equal parameters share one. `uniformOf[i]` belongs to `steps[i]`. */
  readonly uniforms: readonly { readonly step: Step; readonly offset: number }[];
  readonly uniformOf: readonly number[];
}

/** Limits of the device the recording is made for. */
export interface RecordingLimits {
  /** Largest arena buffer in bytes. */
  readonly chunkBytes: number;
  /** Largest range one binding may cover in bytes. */
  readonly bindingBytes: number;
}

/** Limits of a common discrete GPU, for forecasts made without a device. */
export const DISCRETE_LIMITS: RecordingLimits = { chunkBytes: 2 ** 31 - 256, bindingBytes: 2 ** 31 - 4 };

/** Bytes between uniform blocks: the alignment every device accepts for uniform offsets. */
export const UNIFORM_STRIDE = 256;

/** Finishes a plan. */
export function finish(plan: Plan, limits: RecordingLimits): Recording {
  const steps = dropDead(plan.steps, plan.outputs);
  const residents = new Set<Tensor>();
  for (const { tensors, launch } of steps) {
    for (const tensor of tensors) {
      if (tensor.resident) residents.add(tensor.owner);
      if (tensor.bytes > limits.bindingBytes) {
        throw new RangeError(
          `Cannot bind "${tensor.name}" [${tensor.shape}] to ${launch.kernel.key}: ${tensor.bytes} bytes are more than the ` +
            `${limits.bindingBytes} bytes this device binds at once`,
        );
      }
    }
  }
  const uniforms: { step: Step; offset: number }[] = [];
  const known = new Map<string, number>();
  const uniformOf = steps.map((step) => {
    const key = `${step.launch.kernel.params}|${step.launch.params}`;
    let index = known.get(key);
    if (index === undefined) {
      index = uniforms.length;
      uniforms.push({ step, offset: index * UNIFORM_STRIDE });
      known.set(key, index);
    }
    return index;
  });
  return {
    steps,
    memory: assignMemory(steps, plan.outputs, limits.chunkBytes),
    residents: [...residents],
    uniforms,
    uniformOf,
  };
}

/** Launches that write only transients nobody reads later are dropped, repeatedly by walking from the end. */
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

/** What a recording costs, from shapes alone. */
export interface Cost {
  readonly launches: number;
  readonly flops: number;
  /** Bytes of all bindings, each counted once per launch: a lower bound of the traffic. */
  readonly trafficBytes: number;
  readonly arenaBytes: number;
  readonly residentBytes: number;
  readonly uniformBytes: number;
}

/** Prices a recording. */
export function cost(recording: Recording): Cost {
  let flops = 0;
  let trafficBytes = 0;
  for (const { launch, tensors } of recording.steps) {
    flops += launch.flops;
    for (const tensor of tensors) trafficBytes += tensor.bytes;
  }
  return {
    launches: recording.steps.length,
    flops,
    trafficBytes,
    arenaBytes: recording.memory.chunks.reduce((sum, bytes) => sum + bytes, 0),
    residentBytes: recording.residents.reduce((sum, tensor) => sum + align(tensor.bytes), 0),
    uniformBytes: recording.uniforms.length * UNIFORM_STRIDE,
  };
}

/** Seconds the recording takes if every launch ran at the roofline of `flopsPerSecond` and `bytesPerSecond`. */
export function roofline(recording: Recording, flopsPerSecond: number, bytesPerSecond: number): number {
  let seconds = 0;
  for (const { launch, tensors } of recording.steps) {
    const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    seconds += Math.max(launch.flops / flopsPerSecond, bytes / bytesPerSecond);
  }
  return seconds;
}
