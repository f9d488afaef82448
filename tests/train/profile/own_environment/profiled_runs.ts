/** Runs with `profile`: what they tell, the trace they leave, and that their results are those of runs without it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ProfileEvent, StepEvent, TrainEvent } from "../../../../lib/train/report/events.ts";
import { Timeline } from "../../../../lib/gpu/timeline.ts";
import { openDevice } from "../../../../lib/gpu/device.ts";
import { Session } from "../../../../lib/gpu/session.ts";
import { Executable } from "../../../../lib/gpu/executable.ts";
import { Plan } from "../../../../lib/plan/plan.ts";
import { finish } from "../../../../lib/plan/recording.ts";
import { Tensor } from "../../../../lib/plan/tensor.ts";
import { train } from "../../../../lib/train/trainer.ts";
import { noise } from "../../../../kernels/rows/noise.ts";
import { engine } from "../../../engine.ts";
import { collect, configOf, inScratch } from "../../runs.ts";

const losses = (events: readonly TrainEvent[]) =>
  events.filter((event): event is StepEvent => event.type === "step").map(({ loss, gradNorm }) => [loss, gradNorm]);

/** Measured peaks are kept in a folder of their own. */
Deno.env.set("XDG_CACHE_HOME", Deno.makeTempDirSync());

const saved = (folder: string) => readFileSync(join(folder, "checkpoint-4/state.safetensors"));

Deno.test("a profiled run tells of the steps after its first, and trains the same bits", () =>
  inScratch(async (folder) => {
    const [plain, output_dir] = [join(folder, "run"), join(folder, "profiled")];
    const expected = await collect(configOf(folder));
    const events = await collect(configOf(folder, { profile: 2, output_dir }));
    assert.deepEqual(losses(events), losses(expected));
    assert.deepEqual(saved(output_dir), saved(plain));

    const profiles = events.filter((event): event is ProfileEvent => event.type === "profile");
    assert.deepEqual(profiles.map(({ step, figures }) => [step, figures.steps]), [[3, 2]]);
    const { figures: { milliseconds, families, idle }, words, trace } = profiles[0]!;
    const parts = [...families.map((family) => family.milliseconds), ...Object.values(idle)];
    assert.ok(parts.every((part) => part >= 0));
    const sum = parts.reduce((a, b) => a + b);
    assert.ok(Math.abs(sum - milliseconds) < 1e-6 * milliseconds, `${sum} of ${milliseconds}`);
    const gemm = families.find(({ family }) => family === "gemm")!;
    assert.ok(gemm.launches > 50 && gemm.flopsPerSecond > 0 && gemm.arithmeticShare! > 0);
    assert.ok(families.every(({ memoryShare }) => memoryShare! > 0));
    // Steps are shares of what was measured too, and of nothing on a software driver that no profile asked.
    const share = (event: TrainEvent) => event.type === "step" ? [event.peakShare] : [];
    assert.ok(events.flatMap(share).every((of) => of! > 0 && of! < 1));
    using device = await openDevice({ engine });
    if (device.adapter.software) assert.ok(expected.flatMap(share).every((of) => of === undefined));
    assert.match(words[0]!, /^What bounds the step: /);

    const { traceEvents } = JSON.parse(readFileSync(trace, "utf8")) as {
      traceEvents: { ph: string; name: string; ts: number; dur: number }[];
    };
    const timed = traceEvents.filter(({ ph }) => ph === "X");
    assert.equal(timed.filter(({ name }) => name === "step").length, 2);
    assert.equal(timed.filter(({ name }) => name === "gemm").length, 2 * gemm.launches);
    assert.ok(timed.every(({ dur }) => dur >= 0));
    assert.ok(timed.every(({ ts }, i) => i === 0 || ts >= timed[i - 1]!.ts));
  }));

Deno.test("a run of one step says that there was nothing to profile", () =>
  inScratch(async (folder) => {
    const events = await collect(configOf(folder, { profile: 5, train_steps: 1 }));
    assert.ok(events.some((event) => event.type === "warning" && /nothing was profiled/.test(event.message)));
  }));

Deno.test("a run that is stopped tells of the steps it was watched for", () =>
  inScratch(async (folder) => {
    const stop = new AbortController();
    const profiles: ProfileEvent[] = [];
    for await (const event of train(configOf(folder, { profile: 3 }), { signal: stop.signal })) {
      if (event.type === "step" && event.step === 2) stop.abort();
      if (event.type === "profile") profiles.push(event);
    }
    assert.deepEqual(profiles.map(({ step, figures }) => [step, figures.steps]), [[2, 1]]);
  }));

Deno.test("where passes cannot be timed, every launch is timed on the host's clock, one after the other", async () => {
  using device = await openDevice({ engine });
  using session = new Session(device);
  const tensor = new Tensor("x", [4096], "f32", { resident: true });
  const plan = new Plan({ target: device.target });
  for (let seed = 0; seed < 3; seed++) plan.launch(noise({ y: "f32" }, { elements: 4096, seed }), [tensor], [tensor]);
  using executable = new Executable(session, finish(plan, session.limits));
  const timeline = device.timeline = new Timeline(device.gpu, false);
  await executable.run();
  device.timeline = undefined;
  const launches = await timeline.launches();
  assert.equal(launches.length, 3);
  assert.ok(launches.every(({ begin, end }, i) => end >= begin && (i === 0 || begin >= launches[i - 1]!.end)));
  assert.equal(launches[0]!.bytes, 16384);
});
