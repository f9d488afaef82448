/** Tensors that live in host memory are held against what the machine, or its container, can hold, before they are made. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createSingle } from "../../lib/comm/exchange/single.ts";
import { UserError } from "../../lib/errors.ts";
import { hostMemoryLimit, requireHostMemory } from "../../lib/forecast/require_host_memory.ts";
import { requireMemory } from "../../lib/forecast/require_memory.ts";
import { HostMemory } from "../../lib/gpu/host_memory.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { withRanks } from "../comm/exchange/groups.ts";
import { testDevice } from "../kernels/run.ts";
import { runTiny, tinyConfig } from "../step/tiny_run.ts";
import { collect, configOf, inScratch } from "../train/runs.ts";

const GIB = 2 ** 30;
const limit = { bytes: 100 * GIB, what: "are free" };
const files = (texts: Readonly<Record<string, string>>) => (path: string) => {
  if (texts[path] === undefined) throw new Deno.errors.NotFound(path);
  return texts[path];
};

function isRefused(error: unknown, says: RegExp): boolean {
  assert.ok(error instanceof UserError, `${error}`);
  assert.match(error.summary, says);
  assert.match(error.hint!, /offload_optimizer.*train adapters/);
  return true;
}

Deno.test("what is asked of the machine is what a run allocates there", async () => {
  const { device } = await testDevice();
  for (
    const settings of [
      { training_type: "sft", offload_optimizer: true, mixed_precision: "bf16" },
      { base_weights: "streamed", mixed_precision: "bf16" },
    ]
  ) {
    const config = tinyConfig({ model: "tiny-2b", ...settings });
    assert.equal(requireMemory(config, "f32", device), (await runTiny(config)).hostBytes);
  }
  assert.equal(requireMemory(tinyConfig({ model: "tiny-2b" }), "f32", device), 0);
});

Deno.test("nine tenths of the free memory may be taken, and more is refused with both figures", async () => {
  const alone = createSingle();
  await requireHostMemory(alone, 90 * GIB, { limit });
  await requireHostMemory(alone, 0, { limit: { ...limit, bytes: 0 } });
  const says =
    /^This run keeps 90\.50 GiB in the memory of the machine: 100\.00 GiB are free, of which it may take 90 %$/;
  await assert.rejects(requireHostMemory(alone, 90.5 * GIB, { limit }), (error) => isRefused(error, says));
});

Deno.test("ranks of one machine are added up, those of another are not", async () => {
  await withRanks(2, (ranks) => requireHostMemory(ranks, 60 * GIB, { limit, host: `host ${ranks.rank}` }));
  await withRanks(2, async (ranks) => {
    const says = /keeps 120\.00 GiB in the memory of the machine, in 2 ranks: /;
    await assert.rejects(requireHostMemory(ranks, 60 * GIB, { limit, host: "one" }), (error) => isRefused(error, says));
  });
});

Deno.test("a container that allows less than is free counts, whichever version its control groups have", () => {
  const free = Deno.systemMemoryInfo().available;
  const small = 2 ** 20;
  for (
    const texts of [
      { "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": `${small}\n` },
      {
        "/proc/self/cgroup": "4:cpu,memory:/a\n1:cpu:/b\n0::/\n",
        "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": `${small}\n`,
      },
      { "/sys/fs/cgroup/memory.max": `${small}\n` },
    ] as Record<string, string>[]
  ) {
    const found = hostMemoryLimit(files(texts))!;
    assert.equal(found.bytes, small);
    assert.match(found.what, /container or control group/);
  }
  for (const none of ["max\n", "9223372036854771712\n", ""]) {
    const found = hostMemoryLimit(files({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": none }))!;
    // What is free changes from one look to the next.
    assert.ok(
      found.what === "are free" && found.bytes > small && found.bytes < 2 * free,
      `${found.bytes} ${found.what}`,
    );
  }
});

Deno.test("a whole run is refused by the memory that is free, before it leaves a trace", () =>
  inScratch(async (folder) => {
    const { systemMemoryInfo } = Deno;
    try {
      Deno.systemMemoryInfo = () => ({ ...systemMemoryInfo(), available: 1000 });
      const config = configOf(folder, { base_weights: "streamed" });
      await assert.rejects(
        collect(config),
        (error) => isRefused(error, /in the memory of the machine: 0\.00 GiB are free/),
      );
      assert.ok(!existsSync(config.output_dir));
      await collect(configOf(folder, { base_weights: "resident", train_steps: 1 }));
    } finally {
      Deno.systemMemoryInfo = systemMemoryInfo;
    }
  }));

Deno.test("memory that is refused when it is asked for is an error with the tensor and what to do", async () => {
  const { device } = await testDevice();
  using memory = new HostMemory(device);
  const tensor = new Tensor("masters 3", [2 ** 42], "f32", { host: true });
  assert.throws(
    () => memory.bytes(tensor),
    (error) => isRefused(error, /^Cannot get \d+ bytes .* for masters 3: Array buffer/),
  );
});
