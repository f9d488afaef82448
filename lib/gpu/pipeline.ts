/** Kernel to compiled pipeline: one per key, kept for the life of the device. */
import { type BufferSpec, type Kernel, texelFormat } from "../../kernels/core/kernel.ts";
import type { Device } from "./device.ts";

/** Compiles kernels on demand. */
export class PipelineCache {
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();

  constructor(readonly device: Device) {}

  /**
   * Layout of a uniform block and a kernel's buffers, all writable (explicit: an automatic layout drops unused ones).
   */
  layout(buffers: readonly BufferSpec[]): GPUBindGroupLayout {
    const key = buffers.map(({ dtype, texture }) => texture ? texelFormat(dtype) : "buffer").join();
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      const visibility = GPUShaderStage.COMPUTE;
      const entries: GPUBindGroupLayoutEntry[] = buffers.map(({ dtype, texture }, i) => ({
        binding: i + 1,
        visibility,
        ...(texture
          ? { storageTexture: { access: "read-only", format: texelFormat(dtype) } }
          : { buffer: { type: "storage" } }),
      }));
      layout = this.device.gpu.createBindGroupLayout({
        entries: [{ binding: 0, visibility, buffer: { type: "uniform" } }, ...entries],
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }

  /**
   * The pipeline of a kernel, compiled at most once. A text the engine refuses is reported by {@linkcode Device.check}.
   */
  get(kernel: Kernel): GPUComputePipeline {
    let pipeline = this.#pipelines.get(kernel.key);
    if (pipeline === undefined) {
      const { gpu, dialect } = this.device;
      const directives = kernel.features.map((feature) => dialect.directives[feature]).join("");
      pipeline = gpu.createComputePipeline({
        label: kernel.key,
        layout: gpu.createPipelineLayout({ bindGroupLayouts: [this.layout(kernel.buffers)] }),
        compute: {
          module: gpu.createShaderModule({ label: kernel.key, code: directives + kernel.code }),
          entryPoint: "main",
        },
      });
      this.#pipelines.set(kernel.key, pipeline);
    }
    return pipeline;
  }
}

/** Writes the words of a kernel's uniform block, floats by their bits. */
export function packParams(kernel: Kernel, values: readonly number[]): Uint32Array<ArrayBuffer> {
  if (values.length !== kernel.params.length) {
    throw new RangeError(
      `Cannot launch ${kernel.key} as it takes ${kernel.params.length} parameters: got ${values.length}`,
    );
  }
  // A uniform binding is at least one 16-byte row.
  const words = new Uint32Array(Math.max(4, Math.ceil(values.length / 4) * 4));
  const floats = new Float32Array(words.buffer);
  values.forEach((value, i) => {
    if (kernel.params[i]!.endsWith(":f32")) floats[i] = value;
    else words[i] = value;
  });
  return words;
}
