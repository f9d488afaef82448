/** Opens devices one after another, computes on each, and gives it back: what a thread of a test process does. */
import { openDevice } from "../../../lib/gpu/device.ts";

const code = `
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  values[id.x] = exp(values[id.x]);
}`;

/** Computes on `count` devices. */
export async function useDevices(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    using device = await openDevice({ engine: "deno" });
    const { gpu } = device;
    const compute = { module: gpu.createShaderModule({ code }), entryPoint: "main" };
    const pipeline = gpu.createComputePipeline({ layout: "auto", compute });
    const buffer = gpu.createBuffer({ size: 65536, usage: GPUBufferUsage.STORAGE });
    const entries = [{ binding: 0, resource: { buffer } }];
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(256);
    pass.end();
    gpu.queue.submit([encoder.finish()]);
    await gpu.queue.onSubmittedWorkDone();
    device.check();
  }
}
