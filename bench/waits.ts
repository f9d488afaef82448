/**
 * How long waits for the GPU take: `COGTUNE_ENGINE=dawn deno run -A bench/waits.ts [eager]`. One thread group counts for a while
 * and four bytes of it are read back; `eager` has Dawn poll as it likes, without lib/gpu/spaced_polls.ts.
 */
import { buildKernel } from "../kernels/core/wgsl.ts";
import { openDevice } from "../lib/gpu/device.ts";
import { packParams, PipelineCache } from "../lib/gpu/pipeline.ts";
import { engine } from "../tests/engine.ts";
import { median } from "./harness.ts";
import { print } from "./suite.ts";

const { setImmediate } = globalThis;
const device = await openDevice({ engine });
if (Deno.args[0] === "eager") Object.defineProperty(globalThis, "setImmediate", { value: setImmediate });
const { gpu } = device;
const kernel = buildKernel({
  name: "count",
  spec: {},
  buffers: [{ name: "x", dtype: "f32" }],
  params: ["thousands"],
  workgroupSize: 32,
  body: `  var x = load_x(0);
  for (var i = 0u; i < params.thousands; i++) { for (var j = 0u; j < 1000u; j++) { x = x * 0.999 + 0.1; } }
  if (li == 0u) { store_x(0, x); }`,
});
const pipelines = new PipelineCache(device);
const buffer = (usage: GPUBufferUsageFlags) => gpu.createBuffer({ size: 16, usage: usage | GPUBufferUsage.COPY_DST });
const params = buffer(GPUBufferUsage.UNIFORM);
const x = buffer(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
const staging = buffer(GPUBufferUsage.MAP_READ);
const group = gpu.createBindGroup({
  layout: pipelines.layout(kernel.buffers),
  entries: [params, x].map((buffer, binding) => ({ binding, resource: { buffer } })),
});

/** Milliseconds from submitting to having read. */
async function wait(thousands: number): Promise<number> {
  gpu.queue.writeBuffer(params, 0, packParams(kernel, [thousands]));
  const from = performance.now();
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipelines.get(kernel));
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(x, 0, staging, 0, 16);
  gpu.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  staging.unmap();
  return performance.now() - from;
}

print(`${device.title}\n| thousands of rounds | median ms | shortest | longest |\n|---|---|---|---|`);
for (const thousands of [0, 10, 100, 1000, 10000, 40000]) {
  await wait(thousands);
  const times: number[] = [];
  for (let i = 0; i < (thousands < 1000 ? 41 : 7); i++) times.push(await wait(thousands));
  const figures = [median(times), Math.min(...times), Math.max(...times)].map((time) => time.toFixed(2));
  print(`| ${thousands} | ${figures.join(" | ")} |`);
}
