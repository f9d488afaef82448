/** Tuning on the machine's own device: what it chooses, what it keeps, and what it refuses. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { foldGrid, type Launch, type Problem, THREADS } from "../../kernels/core/kernel.ts";
import { type Family, solve } from "../../kernels/core/variants.ts";
import { buildKernel } from "../../kernels/core/wgsl.ts";
import { gemm } from "../../kernels/matrix/gemm.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { matmul } from "../../lib/ops/matmul.ts";
import { problemsOf } from "../../lib/tune/problems.ts";
import { choicesOf, type RefusedEvent, tune, type TuneEvent, type TuneOptions } from "../../lib/tune/tune.ts";
import { testDevice } from "../kernels/run.ts";

interface Doubling {
  readonly elements: number;
}

/** y = 2 x by a body that may be wrong, with another name for each. */
function doubling(bodies: Readonly<Record<string, string>>): Family<{ readonly factor: number }, Doubling> {
  const launch = (name: string, { elements }: Doubling): Launch => ({
    kernel: buildKernel({
      name: `doubling_${name}`,
      spec: { body: bodies[name]! },
      params: ["count4"],
      buffers: [{ name: "x", dtype: "f32" }, { name: "y", dtype: "f32" }],
      workgroupSize: THREADS,
      body: `if (gid < params.count4) { ${bodies[name]} }`,
    }),
    params: [elements / 4],
    grid: foldGrid(Math.ceil(elements / 4 / THREADS)),
    flops: elements,
  });
  return {
    name: "doubling",
    variants: Object.keys(bodies).map((name) => ({
      name,
      applies: () => true,
      work: (_, __, shape) => ({ launches: [{ launch: launch(name, shape), writes: ["y"] }] }),
    })),
    prefer: () => "right",
    twin: "right",
    traits: (spec, shape) => ({ ...spec, ...shape }),
    operands: (_, { elements }) => ({ x: elements, y: elements }),
    probe: () => ({ elements: 64 }),
  };
}

async function problem(bodies: Readonly<Record<string, string>>): Promise<Problem> {
  const { device } = await testDevice();
  return solve(doubling(bodies), device.target, { factor: 2 }, { elements: 2 ** 18 }).launches[0]!.launch.problem!;
}

async function tuned(problems: readonly Problem[], options: TuneOptions) {
  const { device } = await testDevice();
  const events: (TuneEvent | RefusedEvent)[] = [];
  const run = tune(device, problems, options);
  for (;;) {
    const { done, value } = await run.next();
    if (done) return { events, known: value };
    events.push(value);
  }
}

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(join(folder, "kernels"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const RIGHT = "store_y(gid, 2.0 * load_x(gid));";

/** The same bits for many times the work, so that no clock errs. */
const SLOW = `var v = 2.0 * load_x(gid);
for (var i = 0u; i < 2000u; i++) { v = max(v, 2.0 * load_x(gid) - f32(i & 1u)); }
store_y(gid, v);`;

Deno.test("the fastest variant is chosen, kept, and taken without measuring again", () =>
  inFolder(async (folder) => {
    const doubling = await problem({ right: SLOW, fast: RIGHT });
    const { events, known } = await tuned([doubling], { folder });
    assert.deepEqual(events.map(({ type }) => type), ["tune", "tune"]);
    assert.deepEqual([...choicesOf(known)], [[doubling.key, "fast"]]);
    const again = await tuned([doubling], { folder });
    assert.deepEqual([again.events, [...again.known]], [[], [...known]]);
    assert.equal((await tuned([doubling], { folder, again: true })).events.length, 2);
    // Other texts under the same names are another program.
    const changed = await problem({ right: SLOW, fast: RIGHT.replace("2.0", "(1.0 + 1.0)") });
    assert.equal((await tuned([changed], { folder })).events.length, 2);
  }));

Deno.test("a file that is not whole is measured anew", () =>
  inFolder(async (folder) => {
    const doubling = await problem({ right: RIGHT, same: RIGHT });
    await tuned([doubling], { folder });
    const [file] = [...Deno.readDirSync(folder)];
    await Deno.writeTextFile(join(folder, file!.name), '{"card": 1');
    assert.equal((await tuned([doubling], { folder })).events.length, 2);
  }));

for (
  const [what, body, reason] of [
    ["wrong numbers everywhere", "store_y(gid, 2.01 * load_x(gid));", /"y" is 0.005.* off what right computes/],
    [
      "wrong numbers in large sizes alone",
      "store_y(gid, select(2.0, 2.01, params.count4 > 16u) * load_x(gid));",
      /off what right computes in full size/,
    ],
    ["NaN", "store_y(gid, sqrt(load_x(gid) - 1.0));", /"y" is NaN off/],
    ["a text that the engine refuses", "store_y(gid, nothing(gid));", /nothing/],
  ] as const
) {
  Deno.test(`a variant with ${what} is refused and reported, never used`, () =>
    inFolder(async (folder) => {
      const planted = await problem({ right: SLOW, planted: body });
      const { events, known } = await tuned([planted], { folder });
      const refused = events.filter((event) => event.type === "refused");
      assert.deepEqual(refused.map(({ problem, variant }) => [problem, variant]), [[planted.key, "planted"]]);
      assert.match(refused[0]!.reason, reason);
      assert.equal(known.get(planted.key)!.variant, "right");
      // The device is as good as before.
      const { device } = await testDevice();
      device.check();
    }));
}

Deno.test("the products of a recording are found once each, and every variant of them computes the same", () =>
  inFolder(async (folder) => {
    const { device } = await testDevice();
    const plan = new Plan({ target: device.target });
    const tensor = (name: string, shape: readonly number[]) => new Tensor(name, shape, "f32", { resident: true });
    const [a, b, c] = [tensor("a", [68, 64]), tensor("b", [36, 64]), tensor("c", [68, 36])];
    const product = { layout: "NT", a, b, c } as const;
    for (let i = 0; i < 2; i++) matmul(plan, product, { m: 68, n: 36, k: 64 });
    const problems = problemsOf([finish(plan, device.limits)]);
    assert.equal(problems.length, 1);
    const { events, known } = await tuned(problems, { folder });
    assert.deepEqual(events.filter(({ type }) => type === "refused"), []);
    const { variant, milliseconds } = known.get(problems[0]!.key)!;
    assert.deepEqual(Object.keys(milliseconds).sort(), problems[0]!.candidates().sort());
    const target = { ...device.target, choices: choicesOf(known) };
    const spec = { layout: "NT", a: "f32", b: "f32", c: "f32" } as const;
    assert.equal(gemm(target, spec, { m: 68, n: 36, k: 64 }).launches[0]!.launch.problem!.chosen, variant);
  }));
