/** What NVIDIA's management library knows and Vulkan does not: which process uses which card. */

/** An NVIDIA card. */
export interface NvidiaCard {
  /** PCI address as Vulkan writes it: 0000:41:00.0. */
  readonly pci: string;
  /** Ids of the processes that use it. In a container these are ids of the host. */
  readonly processes: ReadonlySet<number>;
}

const PCI_BYTES = 68;
const PCI_ADDRESS = 36;
const PROCESS_BYTES = 24;
const MOST_PROCESSES = 64;

const symbols = {
  nvmlInit_v2: { parameters: [], result: "i32" },
  nvmlShutdown: { parameters: [], result: "i32" },
  nvmlDeviceGetCount_v2: { parameters: ["buffer"], result: "i32" },
  nvmlDeviceGetHandleByIndex_v2: { parameters: ["u32", "buffer"], result: "i32" },
  nvmlDeviceGetPciInfo_v3: { parameters: ["usize", "buffer"], result: "i32" },
  nvmlDeviceGetGraphicsRunningProcesses_v3: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
  nvmlDeviceGetComputeRunningProcesses_v3: { parameters: ["usize", "buffer", "buffer"], result: "i32" },
} as const;

type Nvml = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** All NVIDIA cards; empty without NVIDIA's driver. Needs `--allow-ffi`. */
export function nvidiaCards(): NvidiaCard[] {
  let nvml: Nvml;
  try {
    nvml = Deno.dlopen("libnvidia-ml.so.1", symbols).symbols;
  } catch {
    return [];
  }
  if (nvml.nvmlInit_v2() !== 0) return [];
  const count = new Uint32Array(1);
  nvml.nvmlDeviceGetCount_v2(count);
  const handle = new BigUint64Array(1);
  const cards: NvidiaCard[] = [];
  for (let index = 0; index < count[0]!; index++) {
    if (nvml.nvmlDeviceGetHandleByIndex_v2(index, handle) === 0) cards.push(describe(nvml, handle[0]!));
  }
  nvml.nvmlShutdown();
  return cards;
}

function describe(nvml: Nvml, handle: bigint): NvidiaCard {
  const pci = new Uint8Array(PCI_BYTES);
  nvml.nvmlDeviceGetPciInfo_v3(handle, pci);
  const address = pci.subarray(PCI_ADDRESS);
  const processes = new Set<number>();
  for (const list of ["Graphics", "Compute"] as const) {
    const count = new Uint32Array([MOST_PROCESSES]);
    const infos = new DataView(new ArrayBuffer(PROCESS_BYTES * MOST_PROCESSES));
    const call = nvml[`nvmlDeviceGet${list}RunningProcesses_v3`];
    if (call(handle, count, new Uint8Array(infos.buffer)) !== 0) continue;
    for (let i = 0; i < count[0]!; i++) processes.add(infos.getUint32(PROCESS_BYTES * i, true));
  }
  return {
    pci: vulkanAddress(new TextDecoder().decode(address.subarray(0, address.indexOf(0)))),
    processes,
  };
}

/** NVML writes the domain with eight digits and in capitals, Vulkan with four in small letters. */
export function vulkanAddress(address: string): string {
  return address.toLowerCase().replace(/^0000(?=[0-9a-f]{4}:)/, "");
}
