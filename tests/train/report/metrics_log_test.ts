import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StepEvent } from "../../../lib/train/report/events.ts";
import { MetricsLog } from "../../../lib/train/report/metrics_log.ts";
import { RunRecords } from "../../../lib/train/report/run_records.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { crc32c, TensorBoardWriter } from "../../../lib/train/report/tensorboard.ts";

async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "cogtune-metrics-"));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function stepEvent(step: number, loss = 0.5): StepEvent {
  const work = { flops: 3e12, trafficBytes: 2e9, flopsPerSecond: 1.5e12 };
  const rates = { learningRate: 1e-4, secondsPerStep: 2, epoch: 0.1, gpuBytes: 1024, ...work };
  return { type: "step", step, totalSteps: 10, loss, gradNorm: 1, ...rates };
}

const stepsIn = (path: string) => readFileSync(path, "utf8").trim().split("\n").map((line) => JSON.parse(line).step);

Deno.test("MetricsLog appends one JSON line per event and survives a reopening", () =>
  inFolder((folder) => {
    const path = join(folder, "run/metrics.jsonl");
    {
      using log = new MetricsLog(path);
      log.write(stepEvent(1), 5000);
      log.sync();
    }
    {
      using log = new MetricsLog(path);
      log.write(stepEvent(2, NaN), 6000);
    }
    const lines = readFileSync(path, "utf8").trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(lines[0], { time: 5, ...stepEvent(1) });
    assert.equal(lines[1].loss, "NaN");
  }));

Deno.test("MetricsLog cuts back to the step a run continues from, with torn and later lines", () =>
  inFolder((folder) => {
    const path = join(folder, "metrics.jsonl");
    {
      using log = new MetricsLog(path);
      // Lines longer than the 64 KiB that are read at once.
      for (let step = 1; step <= 6; step++) {
        log.write(stepEvent(step), step);
        log.write({ type: "warning", message: "ä".repeat(40_000) });
      }
    }
    appendFileSync(path, '{"time": 7, "type": "step", "st');
    {
      using log = new MetricsLog(path, { resumeStep: 4 });
      log.write(stepEvent(5));
    }
    assert.deepEqual(stepsIn(path), [1, undefined, 2, undefined, 3, undefined, 4, undefined, 5]);
    {
      using _log = new MetricsLog(path, { resumeStep: 0 });
    }
    assert.equal(readFileSync(path, "utf8"), "");
  }));

Deno.test("MetricsLog drops a torn last line even when no later step follows", () =>
  inFolder((folder) => {
    const path = join(folder, "metrics.jsonl");
    {
      using log = new MetricsLog(path);
      log.write(stepEvent(1));
    }
    appendFileSync(path, '{"type": "st');
    using log = new MetricsLog(path, { resumeStep: 3 });
    log.write(stepEvent(4));
    assert.deepEqual(stepsIn(path), [1, 4]);
  }));

Deno.test("crc32c() gives the check value of the polynomial's catalogue entry and of RFC 3720", () => {
  assert.equal(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
});

/** Decodes protocol-buffer fields: number, then varint, bytes or fixed value. */
function fields(data: Uint8Array): [number, number | Uint8Array][] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const found: [number, number | Uint8Array][] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1;; shift *= 128) {
      const byte = data[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 0) found.push([tag >> 3, varint()]);
    else if (kind === 1) found.push([tag >> 3, view.getFloat64((at += 8) - 8, true)]);
    else if (kind === 5) found.push([tag >> 3, view.getFloat32((at += 4) - 4, true)]);
    else {
      const length = varint();
      found.push([tag >> 3, data.subarray(at, at += length)]);
    }
  }
  return found;
}

/** Splits TFRecord frames, checking both checksums. */
function records(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const unmask = (masked: number) => {
    const rotated = (masked - 0xa282ead8) >>> 0;
    return ((rotated << 15) | (rotated >>> 17)) >>> 0;
  };
  const found: Uint8Array[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(view.getBigUint64(at, true));
    assert.equal(unmask(view.getUint32(at + 8, true)), crc32c(file.subarray(at, at + 8)));
    const data = file.subarray(at + 12, at + 12 + length);
    assert.equal(unmask(view.getUint32(at + 12 + length, true)), crc32c(data));
    found.push(data);
    at += 16 + length;
  }
  return found;
}

Deno.test("TensorBoardWriter writes framed events: version, session start, scalars", () =>
  inFolder((folder) => {
    {
      using writer = new TensorBoardWriter(folder, { now: 1_700_000_000_500, resumeStep: 300 });
      writer.scalars(301, { loss: 0.25, "grad norm": 1.5 }, 1_700_000_001_000);
    }
    const [name] = readdirSync(folder);
    assert.match(name!, /^events\.out\.tfevents\.1700000000\./);
    const [version, session, scalars] = records(readFileSync(join(folder, name!))).map((record) => fields(record));
    const text = (value: unknown) => new TextDecoder().decode(value as Uint8Array);
    assert.deepEqual(version!.map(([field, value]) => [field, field === 3 ? text(value) : value]), [
      [1, 1_700_000_000.5],
      [3, "brain.Event:2"],
    ]);
    assert.deepEqual(session!.map(([field, value]) => [field, field === 7 ? fields(value as Uint8Array) : value]), [
      [1, 1_700_000_000.5],
      [2, 301],
      [7, [[1, 1]]],
    ]);
    assert.deepEqual(scalars!.slice(0, 2), [[1, 1_700_000_001], [2, 301]]);
    const values = fields(scalars![2]![1] as Uint8Array).map(([, value]) => fields(value as Uint8Array));
    assert.deepEqual(values.map(([tag, value]) => [text(tag![1]), value]), [["loss", [2, 0.25]], ["grad norm", [
      2,
      1.5,
    ]]]);
  }));

Deno.test("RunRecords: time and memory of every rank reach metrics.jsonl and TensorBoard", () =>
  inFolder(async (folder) => {
    const ranks = [{ seconds: 1.5, gpuBytes: 4096 }, { seconds: 2.25, gpuBytes: 8192 }];
    {
      using records = new RunRecords(
        parseConfig("", { overrides: { preset: "2b-lora", output_dir: folder, report_to: "tensorboard" } }),
        0,
      );
      await records.write({ ...stepEvent(1), peakShare: 0.25, ranks });
    }
    assert.deepEqual(JSON.parse(readFileSync(join(folder, "metrics.jsonl"), "utf8")).ranks, ranks);
    const board = join(folder, "tensorboard");
    const [, scalars] = records(readFileSync(join(board, readdirSync(board)[0]!))).map((record) => fields(record));
    const values = fields(scalars![2]![1] as Uint8Array).map(([, value]) => {
      const [tag, number] = fields(value as Uint8Array);
      return [new TextDecoder().decode(tag![1] as Uint8Array), number![1]] as const;
    });
    assert.deepEqual(values.filter(([tag]) => tag.includes("_of_rank_")), [
      ["time/seconds_of_rank_0", 1.5],
      ["memory/gpu_bytes_of_rank_0", 4096],
      ["time/seconds_of_rank_1", 2.25],
      ["memory/gpu_bytes_of_rank_1", 8192],
    ]);
    // 1.5 TFLOP/s of 6.
    assert.deepEqual(values.filter(([tag]) => /teraflops|peak/.test(tag)), [
      ["time/teraflops", 1.5],
      ["time/percent_of_peak", 25],
    ]);
  }));
