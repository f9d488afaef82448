import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { learningRateMultiplier, type LearningRateSchedule } from "../../lib/optim/learning_rate.ts";
import { referencePath } from "../reference.ts";

/** One table of the reference set: what was asked of the library. */
interface Entry {
  readonly name: string;
  readonly optimizer_default_lr: number;
  readonly num_warmup_steps?: number;
  readonly num_training_steps?: number;
  readonly num_cycles?: number;
  readonly power?: number;
}

interface Header {
  readonly [name: string]: {
    readonly dtype: string;
    readonly shape: number[];
    readonly data_offsets: [number, number];
  };
}

function readTables(path: string): { config: Record<string, unknown>; table: (name: string) => Float64Array } {
  const file = readFileSync(path);
  const size = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + size)) as Header & { __metadata__: { fixture: string } };
  const table = (name: string): Float64Array => {
    assert.equal(header[name]!.dtype, "F64");
    const [start, end] = header[name]!.data_offsets;
    return Float64Array.from({ length: (end - start) / 8 }, (_, i) => file.readDoubleLE(8 + size + start + 8 * i));
  };
  return { config: JSON.parse(header.__metadata__.fixture).config, table };
}

Deno.test("learningRateMultiplier() equals the library's tables to 1e-12", () => {
  const { config, table } = readTables(referencePath("optim/lr-tables.safetensors"));
  const peak = config.learning_rate as number;
  const entries = Object.entries(config.entries as Record<string, Entry>)
    .filter(([, { name }]) => name !== "piecewise_constant");
  assert.equal(new Set(entries.map(([, { name }]) => name)).size, 6);
  for (const [key, entry] of entries) {
    const expected = table(key);
    assert.ok(expected.length > (entry.num_training_steps ?? 0));
    expected.forEach((rate, step) => {
      const multiplier = learningRateMultiplier(step, {
        schedule: entry.name as LearningRateSchedule,
        warmupSteps: entry.num_warmup_steps ?? 0,
        totalSteps: entry.num_training_steps ?? 0,
        cycles: entry.num_cycles ?? 1,
        power: entry.power ?? 1,
        initialRate: entry.optimizer_default_lr,
      });
      assert.ok(
        Math.abs(peak * multiplier - rate) <= 1e-12 * peak,
        `${key} step ${step}: ${peak * multiplier} ${rate}`,
      );
    });
  }
});

Deno.test("learningRateMultiplier() starts warm-ups at 0, peaks once, and ends where the formulas end", () => {
  const options = { warmupSteps: 10, totalSteps: 110, cycles: 2, power: 1, initialRate: 2e-5 };
  const at = (schedule: LearningRateSchedule, step: number) => learningRateMultiplier(step, { ...options, schedule });
  for (const schedule of ["constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"] as const) {
    assert.equal(at(schedule, 0), 0);
    assert.equal(at(schedule, 5), 0.5);
    assert.equal(at(schedule, 10), 1);
  }
  assert.equal(at("constant", 0), 1);
  assert.equal(at("linear", 60), 0.5);
  assert.ok(Math.abs(at("cosine", 60) - 0.5) < 1e-15);
  assert.equal(at("cosine_with_restarts", 60), 1);
  assert.equal(at("cosine_with_restarts", 110), 0);
  assert.ok(Math.abs(at("polynomial", 111) - 0.005) < 1e-15);
});
