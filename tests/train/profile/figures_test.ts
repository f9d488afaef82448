/** A profile's figures and words on planted launches: times add up, idle time has its cause, the words name what bounds. */
import assert from "node:assert/strict";
import { clockOffset, type HostSpan, type TimedLaunch } from "../../../lib/gpu/timeline.ts";
import { type Situation, whatBounds } from "../../../lib/train/profile/bounds.ts";
import { type ProfileFigures, sumUp } from "../../../lib/train/profile/figures.ts";
import { traceJson } from "../../../lib/train/profile/trace.ts";

const peaks = { texts: "", operations: { f32: 50e12, units: 400e12 }, bytesPerSecond: 2e12, refused: {} };

const situation: Situation = {
  fullPrecision: false,
  mixed: true,
  matrixUnits: true,
  engine: "dawn",
  software: false,
  tuned: true,
  checkpointing: false,
  streamed: false,
  offloadActivations: false,
  offloadOptimizer: false,
  ranks: 1,
};

function launch(family: string, begin: number, end: number, more: Partial<TimedLaunch> = {}): TimedLaunch {
  return { key: `${family}(x f32)`, features: [], scope: "block", flops: 0, bytes: 0, batch: 0, begin, end, ...more };
}

function span(kind: HostSpan["kind"], begin: number, end: number, bytes = 0): HostSpan {
  return { kind, begin, end, bytes };
}

/** Two steps of 100 ms: products, a norm, and 36 ms in which the GPU has nothing to do. */
const launches = [
  launch("gemm", 20, 50, { flops: 1e12, bytes: 1e9 }),
  launch("layer_norm", 54, 64, { flops: 1e9, bytes: 18e9 }),
  launch("gemm", 120, 150, { flops: 1e12, bytes: 1e9, batch: 1 }),
  // As some drivers say: it begins before the one in front of it ends.
  launch("layer_norm", 149, 160, { flops: 1e9, bytes: 18e9, batch: 1 }),
];
const spans = [
  span("step", 0, 100),
  span("batch", 0, 15),
  span("upload", 15, 18, 4096),
  span("encode", 18, 20),
  span("wait", 20, 98),
  span("step", 100, 200),
  span("exchange", 160, 190),
  // Waits inside of an exchange are the exchange's.
  span("wait", 165, 170),
];

const close = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= 1e-12 * expected, `${actual}`);

Deno.test("the times of families and of all that the GPU waits for add up to the step", () => {
  const { milliseconds, families, idle, waits, submits, uploadedBytes } = sumUp(launches, spans, peaks);
  assert.equal(milliseconds, 100);
  assert.deepEqual(families.map(({ family, milliseconds, launches }) => [family, milliseconds, launches]), [
    ["gemm", 30, 1],
    ["layer norm", 10, 1],
  ]);
  const sum = [...families.map((family) => family.milliseconds), ...Object.values(idle)].reduce((a, b) => a + b);
  close(sum, 100);
  // The first step: 15 ms of batch, 3 of upload, 2 of encoding, 4 between launches, 34 of waiting, 2 of nothing known.
  assert.deepEqual(idle, {
    launches: 2,
    other: (2 + 20 + 10) / 2,
    exchange: 15,
    batch: 7.5,
    upload: 1.5,
    encode: 1,
    wait: 17,
  });
  assert.deepEqual([waits, submits, uploadedBytes], [1, 0.5, 2048]);
});

Deno.test("rates are shares of the measured peak of what does the arithmetic, and of none that was not measured", () => {
  const [gemm, norm] = sumUp(launches, spans, peaks).families;
  close(gemm!.flopsPerSecond, 2e12 / 0.06);
  close(gemm!.arithmeticShare!, 2 / 0.06 / 50);
  close(norm!.memoryShare!, 36e9 / 0.02 / 2e12);
  const units = launches.map((each) => ({ ...each, features: ["subgroup_matrix" as const] }));
  close(sumUp(units, spans, peaks).families[0]!.arithmeticShare!, 2 / 0.06 / 400);
  // One of the two products on matrix units: a step's 2 TFLOP would take 20 ms and 2.5 ms of its 60.
  const both = launches.map((each, i) => i === 0 ? units[0]! : each);
  close(sumUp(both, spans, peaks).families[0]!.arithmeticShare!, (1 / 400 + 1 / 50) / 0.06);
  const packed = launches.map((each) => ({ ...each, features: ["f16" as const, "subgroups" as const] }));
  assert.equal(sumUp(packed, spans, peaks).families[0]!.arithmeticShare, undefined);
  const unknown = sumUp(launches, spans, undefined).families[0]!;
  assert.ok(!("arithmeticShare" in unknown) && !("memoryShare" in unknown));
});

/** A step of 100 ms in which one family takes 70, and one cause of idling the rest. */
function figures(
  family: Partial<ProfileFigures["families"][number]>,
  cause: keyof ProfileFigures["idle"] = "other",
  milliseconds = 70,
): ProfileFigures {
  const none = { launches: 0, batch: 0, upload: 0, encode: 0, wait: 0, exchange: 0, other: 0 };
  return {
    steps: 1,
    milliseconds: 100,
    families: [{ family: "gemm", milliseconds, launches: 9, flopsPerSecond: 2e13, bytesPerSecond: 1e11, ...family }],
    idle: { ...none, [cause]: 100 - milliseconds },
    submits: 1,
    waits: 1,
    uploadedBytes: 0,
  };
}

Deno.test("the words name what bounds a step and the switches that would help", () => {
  const products = figures({ arithmeticShare: 0.4, memoryShare: 0.05 });
  const [first, second, ...rest] = whatBounds(products, {
    ...situation,
    mixed: false,
    tuned: false,
    checkpointing: true,
  });
  assert.equal(
    first,
    "What bounds the step: arithmetic, most of it of gemm at 40 % of the measured peak of its arithmetic, 70 % of its time.",
  );
  assert.equal(second, "Beside it: a GPU that idles during other work of the host, 30 %.");
  assert.deepEqual(rest.map((line) => line.match(/Would help: ([\w ]+)/)![1]), [
    "matmul_precision",
    "tune",
    "gradient_checkpointing",
    "a larger batch_size or train_resolution",
  ]);
  const without = whatBounds(products, { ...situation, mixed: false, matrixUnits: false, engine: "deno" });
  assert.ok(without.some((line) => line.startsWith("Would help: engine: dawn")));

  const memory = whatBounds(figures({ arithmeticShare: 0.01, memoryShare: 0.8 }), {
    ...situation,
    fullPrecision: true,
  });
  assert.match(memory[0]!, /memory traffic, most of it of gemm at 80 % of the measured rate of a copy, 70 %/);
  assert.ok(memory.some((line) => line.startsWith("Would help: mixed_precision: bf16")));

  const streamed = { ...situation, streamed: true, offloadOptimizer: true };
  const uploads = whatBounds(figures({ arithmeticShare: 0.4, memoryShare: 0.1 }, "upload", 20), streamed);
  assert.match(uploads[0]!, /idles during uploads, 80 %/);
  assert.deepEqual(uploads.slice(2).map((line) => line.match(/Would help: (\w+)/)![1]), [
    "base_weights",
    "offload_optimizer",
  ]);

  const exchange = whatBounds(figures({}, "exchange", 20), { ...situation, ranks: 4 });
  assert.match(exchange[0]!, /idles during the exchange of gradients, 80 %/);
  assert.ok(exchange.some((line) => /gradient_accumulation_steps/.test(line)));

  const waits = whatBounds(figures({}, "wait", 20), { ...situation, engine: "deno" });
  assert.match(waits[0]!, /the host waiting for results/);
  assert.ok(waits.some((line) => /engine: dawn/.test(line)));
});

Deno.test("no launch begins before it was submitted on the common clock", () => {
  const batches = [{ submitted: 1000, began: 0 }, { submitted: 1015, began: 10 }, { submitted: 1016, began: 40 }];
  assert.equal(clockOffset(batches), 1005);
});

Deno.test("the trace is valid JSON in order of time, on a track for each kind of work", () => {
  const { traceEvents } = JSON.parse(traceJson(launches, spans)) as {
    traceEvents: { name: string; ph: string; tid: number; ts: number; dur: number; args: { name?: string } }[];
  };
  const names = new Map(traceEvents.filter(({ ph }) => ph === "M").map(({ tid, args }) => [tid, args.name]));
  const events = traceEvents.filter(({ ph }) => ph === "X");
  assert.equal(events.length, launches.length + spans.length);
  assert.deepEqual(events.map(({ ts }) => ts), events.map(({ ts }) => ts).toSorted((a, b) => a - b));
  assert.equal(events[0]!.ts, 0);
  assert.ok(events.every(({ dur }) => dur >= 0));
  const norm = events.find(({ name }) => name === "layer norm")!;
  assert.deepEqual([names.get(norm.tid), norm.ts, norm.dur], ["GPU", 54_000, 10_000]);
  assert.deepEqual(new Set(events.map(({ tid }) => names.get(tid))).size, 7);
});
