/** metrics.jsonl: one line per event of a run, and the cut back to a step when a run is continued. */
import { closeSync, existsSync, ftruncateSync, openSync, readSync } from "node:fs";
import { dirname } from "node:path";
import { makeFolder } from "../../io/file_operations.ts";
import { RecordFile } from "../../io/record_file.ts";
import type { MeasuredLoss } from "../checks/best_loss.ts";
import type { TrainEvent } from "./events.ts";

const newline = 10;

/**
 * Appends events to a JSONL file. Lines reach the operating system at once; `sync` puts them on disk, which the trainer
 * does before each checkpoint, so that a file never ends before the checkpoint it is cut back to.
 */
export class MetricsLog implements Disposable {
  readonly #file: RecordFile;
  readonly #kept: ReadonlyMap<string, number>;
  /** Held-out losses that were there when the file was opened. */
  readonly measured: readonly MeasuredLoss[];

  /**
   * Opens `path` for appending, making it and its folder when absent. With `resumeStep`, everything from the first
   * record of a later step on is cut off, as is a torn last line: those steps are made again. `onKept` sees the records
   * before it.
   */
  constructor(
    path: string,
    options: { readonly resumeStep?: number; readonly onKept?: (event: TrainEvent) => void } = {},
  ) {
    makeFolder(dirname(path));
    const counts = new Map<string, number>();
    this.#kept = counts;
    const measured: MeasuredLoss[] = [];
    this.measured = measured;
    if (options.resumeStep !== undefined && existsSync(path)) {
      cutBack(path, options.resumeStep, (record) => {
        const { type, step, loss } = record;
        options.onKept?.(record as TrainEvent);
        if (type === "heldout") measured.push({ step: Number(step), loss: Number(loss) });
        counts.set(`${type} ${step}`, 1 + (counts.get(`${type} ${step}`) ?? 0));
      });
    }
    this.#file = new RecordFile(path);
  }

  /** How many records of a type and step were there when the file was opened. */
  count(type: TrainEvent["type"], step: number): number {
    return this.#kept.get(`${type} ${step}`) ?? 0;
  }

  /**
   * Appends one event with the time in seconds since 1970. A number that is not finite is written as text, which JSON
   * has no number for.
   *
   * @throws {UserError} when the disk is full or fails; the file is as it was.
   */
  write(event: TrainEvent, now: number = Date.now()): void {
    const plain = (_: string, value: unknown) =>
      typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
    this.#file.append(new TextEncoder().encode(JSON.stringify({ time: now / 1000, ...event }, plain) + "\n"));
  }

  /** Puts everything written so far on disk. */
  sync(): void {
    this.#file.sync();
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Cuts a file off before the first record of a step after `step`; `onKept` sees the records before it. */
function cutBack(path: string, step: number, onKept: (record: MetricsRecord) => void): void {
  const file = openSync(path, "r+");
  try {
    ftruncateSync(file, keptBytes(file, step, onKept));
  } finally {
    closeSync(file);
  }
}

/**
 * Bytes before the first line that belongs to a step after `step` or is not a whole record; `onKept` sees those before
 * it.
 */
function keptBytes(file: number, step: number, onKept: (record: MetricsRecord) => void): number {
  const chunk = new Uint8Array(1 << 16);
  const decoder = new TextDecoder();
  let kept = 0;
  let line = new Uint8Array();
  for (let at = 0;;) {
    const count = readSync(file, chunk, 0, chunk.length, at);
    // Whatever follows the last line break is a line whose writing was interrupted.
    if (count === 0) return kept;
    at += count;
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0 && end < count; end = chunk.indexOf(newline, start)) {
      line = append(line, chunk.subarray(start, end));
      const record = parseRecord(decoder.decode(line));
      if (record === undefined || (typeof record.step === "number" && record.step > step)) return kept;
      onKept(record);
      kept += line.length + 1;
      line = new Uint8Array();
      start = end + 1;
    }
    line = append(line, chunk.subarray(start, count));
  }
}

function append(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** What decides whether a line is kept. */
interface MetricsRecord {
  readonly type?: unknown;
  readonly step?: unknown;
  readonly loss?: unknown;
}

function parseRecord(line: string): MetricsRecord | undefined {
  try {
    return Object(JSON.parse(line)) as MetricsRecord;
  } catch {
    return undefined;
  }
}
