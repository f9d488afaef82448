/**
 * Gives every rank a graphics card of its own. WebGPU takes the first Vulkan device, and the one way to choose among
 * equal cards is an environment variable of Mesa's device-select layer, which acts on the drivers of all vendors; older
 * layers read it wrongly. So a choice is tried in a process of its own and used only when it put the wanted card first.
 */
import { UserError } from "../../errors.ts";
import { readReport } from "../launch/report_line.ts";
import type { VulkanDevice } from "../native/vulkan.ts";

/** Environment variables of a rank. */
export type RankEnvironment = Readonly<Record<string, string>>;

/** Lists the Vulkan devices that a process with these environment variables sees, in its order. */
export type GpuProbe = (environment: RankEnvironment) => Promise<VulkanDevice[]>;

/** Environment variable with the PCI address of the card that a rank must find first. */
export const gpuVariable = "COGTUNE_GPU";

/** A broken Vulkan driver must be an error, not a silent change to OpenGL. */
const vulkanOnly: RankEnvironment = { DENO_WEBGPU_BACKEND: "vulkan" };

/** Runs the probe in a process of its own. */
export async function probeGpus(environment: RankEnvironment): Promise<VulkanDevice[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-ffi", new URL("gpu_probe.ts", import.meta.url).href],
    env: environment,
    stdin: "null",
  }).output();
  const lines = new TextDecoder().decode(stdout).split("\n");
  if (success) return lines.map(readReport).find((report) => report !== undefined) as VulkanDevice[];
  const reason = new TextDecoder().decode(stderr).trim().split("\n").at(0) ?? "";
  throw new UserError(`Cannot list the graphics cards: ${reason}`, "cogtune doctor says what is missing");
}

/** The cards to train on: discrete ones, without those any other that is hardware. */
export function trainingCards(devices: readonly VulkanDevice[]): VulkanDevice[] {
  const discrete = devices.filter(({ type }) => type === "discrete");
  return discrete.length > 0 ? discrete : devices.filter(({ type }) => type !== "cpu");
}

/** Number of cards to train on; 1 where only software renders. */
export async function countGpus(probe: GpuProbe = probeGpus): Promise<number> {
  return Math.max(1, trainingCards(await probe(vulkanOnly)).length);
}

/**
 * The environments in which `size` ranks find a card each. Where only software renders, all share it.
 *
 * @throws {UserError} when there are too few cards, or they can't be told apart.
 */
export async function pinGpus(size: number, probe: GpuProbe = probeGpus): Promise<RankEnvironment[]> {
  const devices = await probe(vulkanOnly);
  const cards = trainingCards(devices);
  if (devices.length > 0 && cards.length === 0) return new Array<RankEnvironment>(size).fill(vulkanOnly);
  if (cards.length < size) {
    const found = cards.map(({ name, pci }) => `${name}${pci === undefined ? "" : ` at ${pci}`}`).join(", ");
    throw new UserError(
      `${size} graphics cards wanted, ${cards.length} found${found === "" ? "" : `: ${found}`}`,
      cards.length === 0 ? "cogtune doctor says what is missing" : `--gpus ${cards.length}`,
    );
  }
  return await Promise.all(cards.slice(0, size).map((_, rank) => pinCard(devices, rank, probe)));
}

/**
 * The environment in which a process finds the card of this place among {@linkcode trainingCards}.
 *
 * @throws {UserError} when no environment puts it first.
 */
export async function pinCard(
  devices: readonly VulkanDevice[],
  place: number,
  probe: GpuProbe = probeGpus,
): Promise<RankEnvironment> {
  const card = trainingCards(devices)[place]!;
  if (card.pci === undefined) {
    if (devices.length === 1) return vulkanOnly;
    throw new UserError(
      `${card.name} does not tell its PCI address, so it can't be told from other cards`,
      "give each rank a container with one card, or train on one",
    );
  }
  const others = devices.filter(({ pci }) => pci !== undefined && pci !== card.pci);
  const candidates: RankEnvironment[] = [
    ...(devices[0]!.pci === card.pci ? [{}] : []),
    // Mesa before 23 compares the wrong way round and moves forward a card that is not the one named.
    ...[card, ...others].map(({ pci }) => ({ DRI_PRIME: `pci-${pci!.replaceAll(/[:.]/g, "_")}` })),
  ];
  for (const candidate of candidates) {
    const environment = { ...vulkanOnly, ...candidate };
    const [first] = await probe(environment);
    if (first?.pci === card.pci) return { ...environment, [gpuVariable]: card.pci };
  }
  throw new UserError(
    `Cannot give rank ${place} the card at ${card.pci}: Mesa's device-select layer is missing or too old`,
    "install mesa-vulkan-drivers 23 or later, or give each rank a container with one card",
  );
}

/**
 * Makes sure that this process finds the card it was given. To be called before the first adapter is requested.
 *
 * @throws {UserError} when another card comes first.
 */
export function checkOwnGpu(expected: string | undefined, devices: () => readonly VulkanDevice[]): void {
  if (expected === undefined) return;
  const found = devices()[0];
  if (found?.pci === expected) return;
  throw new UserError(
    `This rank was given the card at ${expected} and finds ${found?.name ?? "none"} at ${
      found?.pci ?? "no address"
    } first`,
    "give each rank a container with one card",
  );
}
