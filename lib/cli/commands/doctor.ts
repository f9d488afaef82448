/** Checks the machine part by part and says what to do about each fault. */
import type { AdapterReport } from "../../gpu/adapter.ts";
import { installDawn } from "../../gpu/dawn.ts";
import { describeMatrix, type EngineReport } from "../../gpu/engine.ts";
import { recheckModels } from "../../models/folder/hub.ts";
import { findVulkanDrivers, findVulkanLoader, installCommand } from "../machine/setup.ts";
import type { Environment } from "../machine/environment.ts";
import type { System } from "../machine/system.ts";
import { formatBytes } from "../show/text.ts";

/** One part of the machine. */
export interface Check {
  readonly name: string;
  /** ok; a note that costs speed or comfort; a problem that stops training. */
  readonly status: "ok" | "note" | "problem";
  readonly found: string;
  /** What to do, with the command to run. */
  readonly remedy?: string;
}

/** The oldest Deno whose WebGPU runs every kernel. */
const minimumDeno = [2, 9] as const;
/** Space that a first run needs: clips, their cache, a few checkpoints of a small model. */
const lowDisk = 5 * 2 ** 30;
/** Weights of CogVideoX-2b in half precision, with room to work. */
const lowMemory = 6 * 2 ** 30;

/** Checks the machine, prints what was found and what follows from it; returns the exit code. */
export async function doctorCommand(
  { terminal, system, commands, json }: Environment,
  models: boolean,
): Promise<number> {
  let engines: readonly EngineReport[] = [];
  const checks = await diagnose(system, async () => engines = await commands.describeEngines());
  if (models) checks.push(...await Array.fromAsync(checkModels()));
  const ready = !checks.some(({ status }) => status === "problem");
  const verdict = judge(checks, engines);
  if (json) terminal.json({ type: "doctor", ready, verdict, checks, engines });
  else {
    for (const { name, status, found, remedy } of checks) {
      terminal.write(`${status.padEnd(8)} ${name.padEnd(15)} ${found}\n`);
      if (remedy !== undefined) terminal.write(`${" ".repeat(25)}${remedy}\n`);
    }
    terminal.write(`\n${verdict}\n`);
  }
  return ready ? 0 : 1;
}

/** What the checks come to, in one line. */
function judge(checks: readonly Check[], engines: readonly EngineReport[]): string {
  const problems = checks.filter(({ status }) => status === "problem").map(({ name }) => name);
  if (problems.length > 0) {
    return `Not ready to train: ${problems.length} problem${problems.length === 1 ? "" : "s"} (${problems.join(", ")})`;
  }
  const adapters = engines.flatMap(({ adapter }) => adapter ?? []);
  const card = adapters.find(({ software, matrix }) => !software && matrix.length > 0) ??
    adapters.find(({ software }) => !software);
  if (card !== undefined) return `Ready to train on ${card.description}, engine ${card.engine}`;
  return "Ready for tests and tiny models only: no GPU was found, a software driver computes on the CPU";
}

/** Runs all checks. */
export async function diagnose(
  system: System,
  describeEngines: () => Promise<readonly EngineReport[]>,
): Promise<Check[]> {
  const tools = await Promise.all([checkTool(system, "ffmpeg"), checkTool(system, "ffprobe")]);
  const vulkan = system.os === "linux" ? checkVulkan(system) : [];
  const engines = (await describeEngines()).flatMap((report) => checkEngine(system, report));
  return [checkDeno(Deno.version.deno), ...tools, ...vulkan, ...engines, checkMemory(system), checkDisk(system)];
}

/** Looks at the bytes of every model in the cache of downloads, one check for each. */
export async function* checkModels(cacheFolder?: string): AsyncGenerator<Check> {
  let count = 0;
  for await (const { model, folder, files, bytes, damaged } of recheckModels(cacheFolder)) {
    count++;
    const name = "Model";
    const size = `${files} files, ${formatBytes(bytes)} in ${folder}`;
    if (damaged.length === 0) yield { name, status: "ok", found: `${model}: ${size}, as the hub has them` };
    else {
      const found = `${model}: ${damaged.length} of ${size} are missing or damaged: ${damaged.join(", ")}`;
      yield { name, status: "problem", found, remedy: "The next run that uses it downloads these files again" };
    }
  }
  if (count === 0) yield { name: "Model", status: "ok", found: "none is downloaded" };
}

/** Whether this version of Deno is new enough. */
export function checkDeno(version: string): Check {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const old = major < minimumDeno[0] || (major === minimumDeno[0] && minor < minimumDeno[1]);
  if (!old) return { name: "Deno", status: "ok", found: version };
  const remedy = "Run: deno upgrade";
  return { name: "Deno", status: "problem", found: `${version}, expected ${minimumDeno.join(".")} or later`, remedy };
}

async function checkTool(system: System, tool: string): Promise<Check> {
  const result = await system.run(tool, ["-version"]);
  const remedy = `Run: ${installCommand(system, ["ffmpeg"])}`;
  if (result === undefined) return { name: tool, status: "problem", found: "not on the PATH", remedy };
  const version = /version (\S+)/.exec(result.text)?.[1] ?? "unknown version";
  if (!result.success) return { name: tool, status: "problem", found: `${version} ends with an error`, remedy };
  return { name: tool, status: "ok", found: version };
}

function checkVulkan(system: System): Check[] {
  const remedy = `Run: ${installCommand(system, ["mesa-vulkan-drivers", "libvulkan1"])}`;
  const loader = findVulkanLoader(system);
  const drivers = findVulkanDrivers(system);
  const checks: Check[] = [
    loader === undefined
      ? { name: "Vulkan loader", status: "problem", found: "libvulkan.so.1 not found", remedy }
      : { name: "Vulkan loader", status: "ok", found: loader },
    drivers.length === 0
      ? { name: "Vulkan drivers", status: "problem", found: "none", remedy }
      : { name: "Vulkan drivers", status: "ok", found: drivers.map((path) => path.replace(/.*\//, "")).join(", ") },
  ];
  // A container gets the card, but not the graphics half of its driver, unless it asks for it.
  if (system.exists("/dev/nvidia0") && !drivers.some((path) => /nvidia/i.test(path))) {
    checks.push({
      name: "NVIDIA driver",
      status: "problem",
      found: "there is an NVIDIA card, but no Vulkan driver for it",
      remedy:
        "In a container: start it with -e NVIDIA_DRIVER_CAPABILITIES=all; otherwise: sudo apt-get install nvidia-driver",
    });
  }
  return checks;
}

/** Deno's own engine is needed; Dawn is a gain where it works. */
function checkEngine(system: System, { engine, adapter, problem }: EngineReport): Check[] {
  if (adapter !== undefined) return describeAdapter(adapter);
  const found = `engine ${engine}: ${problem ?? "finds no adapter"}`;
  if (engine === "dawn") {
    const remedy = `Optional, for the matrix units of cards whose driver shows them: ${installDawn}`;
    return [{ name: "GPU", status: "note", found, ...(problem === undefined ? {} : { remedy }) }];
  }
  if (problem !== undefined) return [{ name: "GPU", status: "problem", found }];
  const software = installCommand(system, ["mesa-vulkan-drivers", "libvulkan1"]);
  const orSoftware = system.os === "linux" ? `, or the software driver: ${software}` : "";
  return [{ name: "GPU", status: "problem", found, remedy: `Install the driver of your GPU${orSoftware}` }];
}

function describeAdapter(report: AdapterReport): Check[] {
  const { description, vendor, engine, software, subgroups, matrix, features, missing, limits } = report;
  // Some drivers give a bare PCI number for the vendor, which says nothing beside the name of the card.
  const found = `${description}${/^\d*$/.test(vendor) ? "" : ` (${vendor})`}, engine ${engine}`;
  const remedy = "This driver runs on the CPU: fine for tests and tiny models only";
  const groups = subgroups.max > 0 ? `${subgroups.min} to ${subgroups.max} lanes` : "none";
  const figures = Object.entries(limits).map(([key, value]) =>
    `${key} ${/Size$/.test(key) ? formatBytes(value) : value}`
  );
  const checks: Check[] = [
    software ? { name: "GPU", status: "note", found, remedy } : { name: "GPU", status: "ok", found },
    { name: "Subgroups", status: "ok", found: groups },
    { name: "Matrix units", status: "ok", found: matrix.length === 0 ? "none" : describeMatrix(matrix) },
    { name: "Features", status: "ok", found: features.length === 0 ? "none" : features.join(", ") },
    { name: "Limits", status: "ok", found: figures.join(", ") },
  ];
  if (missing.length > 0) checks.push({ name: "Missing", status: "note", found: missing.join(", ") });
  return checks;
}

function checkMemory(system: System): Check {
  const { free, total } = system.memory();
  const found = `${formatBytes(free)} free of ${formatBytes(total)}`;
  if (free >= lowMemory) return { name: "Memory", status: "ok", found };
  return { name: "Memory", status: "note", found, remedy: "Close other programs before loading a released model" };
}

function checkDisk(system: System): Check {
  const free = system.freeDisk(".");
  const found = `${formatBytes(free)} free in the current folder`;
  if (free >= lowDisk) return { name: "Disk", status: "ok", found };
  return { name: "Disk", status: "note", found, remedy: "Set output_dir and cache_dir to a disk with more space" };
}
