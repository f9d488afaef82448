/** Finds ffmpeg and Vulkan drivers, and installs them where that needs no question. */
import { UserError } from "../../errors.ts";
import { type System, thisSystem } from "./system.ts";

/** Folders of the Vulkan loader on Linux distributions. */
const libraryFolders = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
  "/usr/local/lib",
  "/run/opengl-driver/lib",
];

/** Folders in which the loader looks for driver manifests. */
const driverFolders = [
  "/usr/share/vulkan/icd.d",
  "/etc/vulkan/icd.d",
  "/usr/local/share/vulkan/icd.d",
  "/usr/local/etc/vulkan/icd.d",
  "/etc/xdg/vulkan/icd.d",
  "/run/opengl-driver/share/vulkan/icd.d",
];

/** Packages of Debian and Ubuntu; mesa-vulkan-drivers has the software driver that works without a GPU. */
const vulkanPackages = ["mesa-vulkan-drivers", "libvulkan1"];

/** What tests alone need, by the program that is looked for: ranks under mpirun, and networks between them. */
const testTools = [["mpirun", "--version", "openmpi-bin"], ["ip", "-V", "iproute2"]] as const;

/** What people and other distributions call the packages. */
const packageNames: Readonly<Record<string, { title?: string; dnf: string; pacman: string }>> = {
  "ffmpeg": { title: "ffmpeg", dnf: "ffmpeg-free", pacman: "ffmpeg" },
  "mesa-vulkan-drivers": { title: "a Vulkan driver", dnf: "mesa-vulkan-drivers", pacman: "vulkan-swrast" },
  "libvulkan1": { dnf: "vulkan-loader", pacman: "vulkan-icd-loader" },
  "openmpi-bin": { title: "Open MPI", dnf: "openmpi", pacman: "openmpi" },
  "iproute2": { title: "iproute2", dnf: "iproute", pacman: "iproute2" },
};

/** Path of the Vulkan loader, if the system has one. */
export function findVulkanLoader(system: System): string | undefined {
  const extra = (system.environment("LD_LIBRARY_PATH") ?? "").split(":").filter((folder) => folder !== "");
  return [...extra, ...libraryFolders].map((folder) => `${folder}/libvulkan.so.1`).find((path) => system.exists(path));
}

/** Manifests of the installed Vulkan drivers. */
export function findVulkanDrivers(system: System): string[] {
  for (const name of ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]) {
    const listed = system.environment(name);
    // Either variable replaces the search in folders.
    if (listed) return listed.split(":").filter((path) => system.exists(path));
  }
  const home = system.environment("HOME");
  const folders = home === undefined ? driverFolders : [...driverFolders, `${home}/.local/share/vulkan/icd.d`];
  return folders.flatMap((folder) => {
    return system.list(folder).filter((name) => name.endsWith(".json")).map((name) => `${folder}/${name}`);
  });
}

/** The command that installs what `packages` name on Debian, or its counterpart on other systems. */
export function installCommand(system: System, packages: readonly string[]): string {
  if (system.os === "darwin") return "brew install ffmpeg";
  if (system.os === "windows") return "winget install ffmpeg";
  const names = (manager: "dnf" | "pacman") => packages.map((name) => packageNames[name]![manager]).join(" ");
  if (system.exists("/usr/bin/dnf")) return `sudo dnf install ${names("dnf")}`;
  if (system.exists("/usr/bin/pacman")) return `sudo pacman -S ${names("pacman")}`;
  const sudo = system.isRoot ? "" : "sudo ";
  return `${sudo}apt-get update && ${sudo}apt-get install -y ${packages.join(" ")}`;
}

/** Packages that are missing for training. On macOS and Windows the GPU driver is part of the system. */
export async function missingPackages(system: System): Promise<string[]> {
  const tools = await Promise.all(["ffmpeg", "ffprobe"].map((tool) => system.run(tool, ["-version"])));
  const packages = tools.every((tool) => tool?.success) ? [] : ["ffmpeg"];
  if (system.os !== "linux") return packages;
  const hasVulkan = findVulkanLoader(system) !== undefined && findVulkanDrivers(system).length > 0;
  return hasVulkan ? packages : [...packages, ...vulkanPackages];
}

/** Packages that are missing for the tests of several hosts, which run on Linux alone. */
async function missingTestPackages(system: System): Promise<string[]> {
  if (system.os !== "linux") return [];
  const found = await Promise.all(testTools.map(([tool, flag]) => system.run(tool, [flag])));
  return testTools.flatMap(([, , name], i) => found[i]?.success ? [] : [name]);
}

/** As "ffmpeg and a Vulkan driver are missing". */
function describeMissing(packages: readonly string[]): string {
  const titles = packages.flatMap((name) => packageNames[name]!.title ?? []);
  const list = new Intl.ListFormat("en").format(titles).replace(/^a /, "A ");
  return `${list} ${titles.length > 1 ? "are" : "is"} missing`;
}

/**
 * Makes sure that ffmpeg and a Vulkan driver are there, with `tests` also what tests of several hosts need. On Debian
 * and Ubuntu, as root or with sudo that asks for no password, what is missing is installed. It must run before the
 * first GPU adapter is requested, because the drivers are looked for once per process. Throws UserError with the
 * command to run where it cannot install; what tests alone need is then told only.
 */
export async function ensureSystem(
  print: (line: string) => void,
  system: System = thisSystem,
  { tests = false }: { readonly tests?: boolean } = {},
): Promise<void> {
  const required = await missingPackages(system);
  const packages = [...required, ...tests ? await missingTestPackages(system) : []];
  if (packages.length === 0) return;
  const what = describeMissing(packages);
  const command = installCommand(system, packages);
  const refuse = (problem: string) => {
    if (required.length > 0) throw new UserError(problem, `Run: ${command}`);
    print(`${problem}; tests that need more are left out. Run: ${command}`);
  };
  const prefix = await aptPrefix(system);
  if (prefix === undefined) return refuse(what);
  print(`${what}; running: ${command}`);
  const environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
  for (const action of [["update"], ["install", "-y", "--no-install-recommends", ...packages]]) {
    const [program, ...args] = [...prefix, ...environment, ...action];
    const result = await system.run(program!, args);
    // A stale package list is no obstacle when the packages are found all the same.
    if (action[0] === "install" && !result?.success) {
      const tail = result?.text.trim().split("\n").slice(-5).join("\n") ?? `"${program}" is not on the PATH`;
      return refuse(`${what}, and installing failed:\n${tail}`);
    }
  }
  print(`Installed ${packages.join(", ")}`);
}

/**
 * Words in front of apt-get that give it the rights it needs, or undefined when it cannot have them without a question.
 */
async function aptPrefix(system: System): Promise<string[] | undefined> {
  if (system.os !== "linux" || !system.exists("/usr/bin/apt-get")) return undefined;
  if (system.isRoot) return [];
  const sudo = await system.run("sudo", ["-n", "true"]);
  return sudo?.success ? ["sudo", "-n"] : undefined;
}
