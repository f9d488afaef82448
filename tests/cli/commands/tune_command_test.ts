/** The table of `tune`, and the time that `plan` makes of it. */
import assert from "node:assert/strict";
import type { Launch, Problem } from "../../../kernels/core/kernel.ts";
import { measuredTime } from "../../../lib/cli/commands/plan_measured.ts";
import { tunedLines } from "../../../lib/cli/commands/tune_command.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { recordForecast } from "../../../lib/forecast/forecast.ts";
import { cli } from "../fakes.ts";

const buffers = [{ name: "a", dtype: "bf16" }, { name: "c", dtype: "f32" }];
const launch = { flops: 2e9, kernel: { buffers } } as unknown as Launch;
const problem = {
  key: "gemm(m=4)",
  twin: "slow",
  operands: () => ({ a: 2e6, c: 1e6 }),
  work: () => ({ launches: [{ launch, writes: ["c"] }] }),
} as unknown as Problem;

Deno.test("tune shows each problem with the variant in use, its rate, and why others are not used", () => {
  const measured = {
    texts: "",
    variant: "fast",
    milliseconds: { slow: 8, fast: 2 },
    refused: { wrong: '"c" is 0.50 off what plain computes' },
  };
  const peaks = { texts: "", operations: { units: 4e14, f32: 5e13 }, bytesPerSecond: 3e12, refused: {} };
  const unknown = ["the peak of this card in f16 arithmetic is not known: it computed 1 where 2 is right"];
  const text = tunedLines({ card: "deno, a card", peaks, unknown, problems: [{ problem, measured }] }).join("\n");
  assert.match(text, /^deno, a card\n/);
  assert.match(text, /\nmeasured peaks: matrix units 400 TFLOP\/s, f32 50\.0 TFLOP\/s, a copy 3000 GB\/s\nthe peak of/);
  // 2 GFLOP and 8 MB in 2 ms.
  assert.match(text, /gemm\(m=4\) +fast +2\.00 ms +1\.00 TFLOP\/s +4 +slow 8\.00/);
  assert.match(text, /refused: "wrong" for gemm\(m=4\): "c" is 0\.50 off/);
});

Deno.test("tune takes settings, and measures anew when asked", async () => {
  const asked: (readonly [number, boolean])[] = [];
  const commands = {
    async *tune(config: { readonly rank: number }, { again }: { readonly again: boolean }) {
      asked.push([config.rank, again]);
      yield { type: "tune", done: 1, total: 1, problem: "" } as const;
      return { card: "deno, a card", peaks: undefined, unknown: [], problems: [] };
    },
  };
  const { code, out } = await cli(["tune", "--rank", "8", "--again"], { commands });
  assert.equal(code, 0);
  assert.match(out, /measured kernels 1\/1\ndeno, a card/);
  await cli(["tune", "--rank", "8"], { commands });
  assert.deepEqual(asked, [[8, true], [8, false]]);
});

Deno.test("a step costs what its kernels were measured to take", () => {
  const training = recordForecast(parseConfig("preset: 2b-lora")).phases.find(({ name }) => name === "training")!;
  const launches = training.work.flatMap(({ recording, runs }) =>
    recording.launches.map((launch) => ({ launch, runs }))
  );
  const solved = launches.filter(({ launch }) => launch?.problem !== undefined);
  // Another variant's figure is not the run's.
  const measured = { texts: "", variant: "a", milliseconds: { a: 1000, b: 1 }, refused: {} };
  const problems = Object.fromEntries(solved.map(({ launch }) => [launch!.problem!.key, measured]));
  assert.equal(measuredTime(training, []), undefined);
  assert.equal(measuredTime(training, [{ card: "other", problems: {} }]), undefined);
  const { card, seconds } = measuredTime(training, [{ card: "deno, unknown", problems }])!;
  assert.equal(card, "deno, unknown");
  // A second for each, and the rest, less than a tenth of the arithmetic, at the same rate.
  const total = solved.reduce((sum, { runs }) => sum + runs, 0);
  assert.ok(seconds >= total && seconds < 1.1 * total, `${seconds} ${total}`);
});
