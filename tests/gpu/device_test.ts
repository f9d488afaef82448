/** What plans are allowed on a device. */
import assert from "node:assert/strict";
import { recordingLimits } from "../../lib/gpu/device.ts";

/** A device that refuses buffers of more than `heap` bytes, and whose figures do not say so. */
function fakeGpu(heap: number, limits: Partial<GPUSupportedLimits>): Parameters<typeof recordingLimits>[0] {
  const scopes: (GPUError | null)[] = [];
  return {
    limits: {
      maxBufferSize: 2 ** 32,
      maxStorageBufferBindingSize: 2 ** 31 - 4,
      maxStorageBuffersPerShaderStage: 2 ** 20,
      ...limits,
    } as GPUSupportedLimits,
    pushErrorScope: () => void scopes.push(null),
    popErrorScope: () => Promise.resolve(scopes.pop()!),
    createBuffer: ({ size }) => {
      if (size > heap) scopes[scopes.length - 1] = new GPUOutOfMemoryError("no heap is large enough");
      return { destroy: () => undefined } as GPUBuffer;
    },
  };
}

const MIB = 2 ** 20;

Deno.test("buffers keep to 240 MiB where the driver refuses more than a heap of 256 MiB allows", async () => {
  const small = await recordingLimits(fakeGpu(0.97 * 256 * MIB, {}));
  assert.deepEqual(small, { chunkBytes: 240 * MIB, bindingBytes: 2 ** 31 - 4, bindings: 32 });
});

Deno.test("elsewhere the figures of the device hold, aligned", async () => {
  const large = await recordingLimits(fakeGpu(Infinity, { maxBufferSize: 2 ** 31 - 1 }));
  assert.deepEqual(large, { chunkBytes: 2 ** 31 - 256, bindingBytes: 2 ** 31 - 4, bindings: 32 });
  const least = { maxBufferSize: 2 ** 27, maxStorageBufferBindingSize: 2 ** 27, maxStorageBuffersPerShaderStage: 8 };
  assert.deepEqual(await recordingLimits(fakeGpu(0, least)), {
    chunkBytes: 2 ** 27,
    bindingBytes: 2 ** 27,
    bindings: 8,
  });
});
