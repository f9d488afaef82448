/**
 * A command line without a machine: output is collected, signals are sent by the test, the trainer is a list of events.
 */
import type { Commands } from "../../lib/cli/machine/commands.ts";
import type { Environment } from "../../lib/cli/machine/environment.ts";
import { runCli } from "../../lib/cli/run_cli.ts";
import { createTerminal } from "../../lib/cli/machine/terminal.ts";
import type { HandledSignal, SignalSource } from "../../lib/cli/machine/signals.ts";
import type { ProgramResult, System } from "../../lib/cli/machine/system.ts";
import type { TrainConfig } from "../../lib/config/config.ts";
import type { StepEvent, TrainEvent } from "../../lib/train/report/events.ts";

/** Signals that a test sends. */
export class FakeSignals implements SignalSource {
  readonly handlers = new Map<HandledSignal, () => void>();
  readonly exits: number[] = [];
  listen(name: HandledSignal, handler: () => void): void {
    this.handlers.set(name, handler);
  }
  unlisten(name: HandledSignal): void {
    this.handlers.delete(name);
  }
  exit(code: number): void {
    this.exits.push(code);
  }
  send(name: HandledSignal): void {
    this.handlers.get(name)!();
  }
}

/** A machine made of a list of files and of programs with fixed output. */
export function fakeSystem(
  files: readonly string[],
  programs: Readonly<Record<string, ProgramResult>>,
  options: Partial<System> = {},
): System & { readonly ran: string[] } {
  const ran: string[] = [];
  return {
    os: "linux",
    isRoot: false,
    exists: (path) => files.includes(path),
    list: (folder) =>
      files.filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1)),
    environment: () => undefined,
    run: (program, args) => {
      ran.push([program, ...args].join(" "));
      return Promise.resolve(programs[program]);
    },
    memory: () => ({ free: 8 * 2 ** 30, total: 16 * 2 ** 30 }),
    freeDisk: () => 100 * 2 ** 30,
    ...options,
    ran,
  };
}

/** A machine with everything that training needs. */
export const soundFiles = ["/usr/lib/x86_64-linux-gnu/libvulkan.so.1", "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"];
export const soundPrograms: Record<string, ProgramResult> = {
  ffmpeg: { success: true, text: "ffmpeg version 5.1.9-0 Copyright" },
  ffprobe: { success: true, text: "ffprobe version 5.1.9-0 Copyright" },
};

/** What one command line did. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly error: string;
  /** Configs that reached the trainer. */
  readonly trained: readonly TrainConfig[];
  /** What happened, in order. */
  readonly calls: readonly string[];
}

/** A step with plausible figures. */
export function stepEvent(step: number, totalSteps: number): StepEvent {
  const work = { flops: 3e12, trafficBytes: 2e9, flopsPerSecond: 1.5e12 };
  const rates = { learningRate: 2e-5, secondsPerStep: 2, epoch: 1, gpuBytes: 3 * 2 ** 30, ...work };
  return { type: "step", step, totalSteps, loss: 0.25, gradNorm: 1.5, ...rates };
}

/** Runs a command line with fakes in place of everything outside it. */
export async function cli(
  args: readonly string[],
  options: {
    readonly events?: (signal: AbortSignal) => AsyncIterable<TrainEvent>;
    readonly columns?: number;
    readonly signals?: SignalSource;
    readonly system?: System;
    readonly commands?: Partial<Commands>;
    /** Lines that a person types. */
    readonly answers?: readonly string[];
  } = {},
): Promise<Outcome> {
  let out = "";
  let error = "";
  const trained: TrainConfig[] = [];
  const calls: string[] = [];
  const commands: Commands = {
    async *train(config, { signal }) {
      calls.push("train");
      trained.push(config);
      yield* options.events?.(signal) ?? [];
    },
    plan: (config) => {
      calls.push("plan");
      return Promise.resolve({ lines: [`forecast of ${config.model}`], figures: { peakBytes: 1 } });
    },
    async *tune() {
      yield { type: "tune", done: 0, total: 0, problem: "" };
      return await Promise.resolve({ card: "a card", peaks: undefined, unknown: [], problems: [] });
    },
    checkData: () => Promise.resolve({ lines: ["3 clips"], notes: [], problems: [], figures: { samples: 3 } }),
    describeEngines: () => Promise.resolve([{ engine: "deno" }]),
    serve: (folder, port) => {
      calls.push(`serve ${folder} ${port}`);
      return Promise.resolve({
        address: "http://127.0.0.1:1/",
        [Symbol.asyncDispose]: () => Promise.resolve(void calls.push("served")),
      });
    },
    ...options.commands,
  };
  const answers = [...options.answers ?? []];
  const environment: Environment = {
    answer: () => Promise.resolve(answers.shift()),
    commands,
    terminal: createTerminal({
      out: (text) => void (out += text),
      error: (text) => void (error += text),
      columns: () => options.columns,
    }),
    signals: options.signals ?? new FakeSignals(),
    system: options.system ?? fakeSystem(soundFiles, soundPrograms),
    ensureSystem: () => {
      calls.push("ensureSystem");
      return Promise.resolve();
    },
  };
  const code = await runCli(args, environment);
  return { code, out, error, trained, calls };
}
