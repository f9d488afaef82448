/**
 * Every Vulkan device with its PCI address, straight from libvulkan: WebGPU tells neither the address nor the memory,
 * so it can't tell two equal cards apart.
 */

/** A Vulkan device. */
export interface VulkanDevice {
  readonly name: string;
  readonly type: "other" | "integrated" | "discrete" | "virtual" | "cpu";
  /** Version of its driver, as the driver counts. */
  readonly driver: number;
  /** As in 0000:03:00.0; software devices have none. */
  readonly pci: string | undefined;
}

const types = ["other", "integrated", "discrete", "virtual", "cpu"] as const;

/** Values of VkStructureType, and the layout of the structures on 64-bit systems. */
const INSTANCE_CREATE_INFO = 1;
const PROPERTIES_2 = 1000059001;
const PCI_BUS_INFO = 1000212000;
const VULKAN_1_1 = (1 << 22) | (1 << 12);
const NAME_BYTES = 256;
const EXTENSION_BYTES = 260;

const symbols = {
  vkCreateInstance: { parameters: ["buffer", "pointer", "buffer"], result: "i32" },
  vkDestroyInstance: { parameters: ["pointer", "pointer"], result: "void" },
  vkEnumeratePhysicalDevices: { parameters: ["pointer", "buffer", "buffer"], result: "i32" },
  vkEnumerateDeviceExtensionProperties: { parameters: ["pointer", "pointer", "buffer", "buffer"], result: "i32" },
  vkGetPhysicalDeviceProperties2: { parameters: ["pointer", "buffer"], result: "void" },
} as const;

type Vulkan = Deno.DynamicLibrary<typeof symbols>["symbols"];

/**
 * Devices in the order in which WebGPU sees them; it takes the first. Layers that reorder them act here too. Needs
 * `--allow-ffi`. Throws Error when no driver answers.
 */
export function vulkanDevices(): VulkanDevice[] {
  const vulkan = Deno.dlopen("libvulkan.so.1", symbols).symbols;
  const [application, applicationView] = structure(48, 0);
  applicationView.setUint32(44, VULKAN_1_1, true);
  const [info, infoView] = structure(64, INSTANCE_CREATE_INFO);
  infoView.setBigUint64(24, addressOf(application), true);
  const handle = new BigUint64Array(1);
  const code = vulkan.vkCreateInstance(info, null, handle);
  if (code !== 0) throw new Error(`vkCreateInstance failed with code ${code}: is a Vulkan driver installed?`);
  const instance = Deno.UnsafePointer.create(handle[0]!);
  try {
    const count = new Uint32Array(1);
    vulkan.vkEnumeratePhysicalDevices(instance, count, null);
    const devices = new BigUint64Array(count[0]!);
    vulkan.vkEnumeratePhysicalDevices(instance, count, devices);
    return Array.from(devices.subarray(0, count[0]!), (device) => describe(vulkan, Deno.UnsafePointer.create(device)));
  } finally {
    vulkan.vkDestroyInstance(instance, null);
  }
}

function describe(vulkan: Vulkan, device: Deno.PointerValue): VulkanDevice {
  const hasAddress = extensions(vulkan, device).includes("VK_EXT_pci_bus_info");
  const [bus, busView] = structure(32, PCI_BUS_INFO);
  const [properties, view] = structure(840, PROPERTIES_2, hasAddress ? bus : undefined);
  vulkan.vkGetPhysicalDeviceProperties2(device, properties);
  const hex = (offset: number, width: number) => busView.getUint32(offset, true).toString(16).padStart(width, "0");
  return {
    name: text(properties, 36),
    type: types[view.getUint32(32, true)] ?? "other",
    driver: view.getUint32(20, true),
    pci: hasAddress ? `${hex(16, 4)}:${hex(20, 2)}:${hex(24, 2)}.${hex(28, 1)}` : undefined,
  };
}

function extensions(vulkan: Vulkan, device: Deno.PointerValue): string[] {
  const count = new Uint32Array(1);
  vulkan.vkEnumerateDeviceExtensionProperties(device, null, count, null);
  const list = new Uint8Array(EXTENSION_BYTES * count[0]!);
  vulkan.vkEnumerateDeviceExtensionProperties(device, null, count, list);
  return Array.from({ length: count[0]! }, (_, i) => text(list, EXTENSION_BYTES * i));
}

/** A structure that begins, as most of Vulkan's do, with its type and the next of a chain. */
function structure(
  bytes: number,
  type: number,
  next?: Uint8Array<ArrayBuffer>,
): [Uint8Array<ArrayBuffer>, DataView<ArrayBuffer>] {
  const memory = new Uint8Array(bytes);
  const view = new DataView(memory.buffer);
  view.setUint32(0, type, true);
  if (next !== undefined) view.setBigUint64(8, addressOf(next), true);
  return [memory, view];
}

function addressOf(memory: Uint8Array<ArrayBuffer>): bigint {
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory)));
}

function text(bytes: Uint8Array, offset: number): string {
  const field = bytes.subarray(offset, offset + NAME_BYTES);
  return new TextDecoder().decode(field.subarray(0, field.indexOf(0)));
}
