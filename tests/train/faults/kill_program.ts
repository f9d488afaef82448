/**
 * A training run that passes named points and kills itself at one of them, or sends itself a signal that it handles: file
 * operations, GPU work, micro-steps and events. Argument: JSON of {@linkcode KillOrder}. Prints every point it passes.
 */
import { relative } from "node:path";
import { type HandledSignal, processSignals, withSignals } from "../../../lib/cli/machine/signals.ts";
import { endProcess } from "../../../lib/comm/native/libc.ts";
import { Executable } from "../../../lib/gpu/executable.ts";
import { type FileOperations, fileOperations } from "../../../lib/io/file_operations.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import type { TrainEvent } from "../../../lib/train/report/events.ts";
import { train } from "../../../lib/train/trainer.ts";
import { TrainingStep } from "../../../lib/step/training_step.ts";

/** What the program runs and where it ends. */
export interface KillOrder {
  /** Text of the config. */
  readonly config: string;
  /** Folder that paths in the names of points are relative to. */
  readonly folder: string;
  /** Points to pass in this order; the process dies at the last one. Empty: it never does. */
  readonly points: readonly string[];
  /** What is sent at the last point instead of SIGKILL; the run handles it as the command line does. */
  readonly signal?: HandledSignal;
}

const order = JSON.parse(Deno.args[0]!) as KillOrder;
const ahead = [...order.points];
const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

/** Passes a point. `half` is what of its work is done when the process dies there; the rest never happens. */
function pass(point: string, half?: () => void): void {
  print(point);
  if (ahead.length === 0 || point !== ahead[0]) return;
  ahead.shift();
  if (ahead.length > 0) return;
  if (order.signal !== undefined) return Deno.kill(Deno.pid, order.signal);
  half?.();
  Deno.kill(Deno.pid, "SIGKILL");
}

/** A path without what nobody can know beforehand: the random part of temporary names, and keys of the cache. */
function nameOf(path: string): string {
  const name = relative(order.folder, path).replaceAll(/[0-9a-f]{64}/g, "#");
  // A temporary file may stand for a temporary file.
  const shorter = name.replaceAll(/\.([^/]+)\.(tmp|old|trash)-[0-9a-f]{12}/g, "$1.$2");
  return shorter.replaceAll(/\.([^/]+)\.(tmp|old|trash)-[0-9a-f]{12}/g, "$1.$2");
}

/** Makes every change of the file system a point. A write that is killed leaves half of its bytes. */
function watchFiles(): void {
  const real: FileOperations = { ...fileOperations };
  const paths = new Map<number, string>();
  const watched: FileOperations = {
    create: (path) => {
      pass(`create ${nameOf(path)}`);
      const descriptor = real.create(path);
      paths.set(descriptor, path);
      return descriptor;
    },
    write: (descriptor, bytes) => {
      pass(
        `write ${nameOf(paths.get(descriptor)!)}`,
        () => void real.write(descriptor, bytes.subarray(0, bytes.length / 2)),
      );
      return real.write(descriptor, bytes);
    },
    sync: (descriptor) => {
      pass(`sync ${nameOf(paths.get(descriptor)!)}`);
      real.sync(descriptor);
    },
    close: (descriptor) => real.close(descriptor),
    syncPath: (path) => {
      pass(`sync ${nameOf(path)}`);
      real.syncPath(path);
    },
    rename: (from, to) => {
      pass(`rename ${nameOf(from)} to ${nameOf(to)}`);
      real.rename(from, to);
    },
    makeFolder: (path) => {
      pass(`make ${nameOf(path)}`);
      real.makeFolder(path);
    },
    remove: (path) => {
      pass(`remove ${nameOf(path)}`);
      real.remove(path);
    },
  };
  Object.assign(fileOperations, watched);
}

/** Makes every plan that is run, every micro-step and every update a point, before its work is submitted. */
function watchGpu(): void {
  const { run } = Executable.prototype;
  Executable.prototype.run = function () {
    pass("gpu");
    return run.call(this);
  };
  const { micro, update } = TrainingStep.prototype;
  TrainingStep.prototype.micro = function (...args) {
    pass("micro");
    return micro.apply(this, args);
  };
  TrainingStep.prototype.update = function (...args) {
    pass("update");
    return update.apply(this, args);
  };
}

function describe(event: TrainEvent): string {
  if (event.type === "cache") return `event cache ${event.kind} ${event.done}`;
  if (event.type === "warning") return `event warning ${event.message}`;
  return "step" in event ? `event ${event.type} ${event.step}` : `event ${event.type}`;
}

watchFiles();
watchGpu();
const code = await withSignals(processSignals, async (signal) => {
  for await (const event of train(parseConfig(order.config), { signal })) pass(describe(event));
}, () => {});
if (code !== 0) endProcess(code);
