/**
 * The refusal of a run whose host tensors the machine cannot hold. Memory is given out when it is written to, so that
 * without this the system would kill a process hours later, and say nothing.
 */
import { readFileSync } from "node:fs";
import type { Communicator, ExchangeOptions } from "../comm/exchange/communicator.ts";
import { gatherValues } from "../comm/exchange/gather.ts";
import { UserError } from "../errors.ts";
import { HOST_MEMORY_HINT } from "../gpu/host_memory.ts";

/** What a host tensor may take of what is free: the program, readback and the cache of files need the rest. */
const SHARE = 0.9;

/** Memory of this machine that a run may take, in bytes. */
export interface HostMemoryLimit {
  readonly bytes: number;
  /** What sets it, as words behind the number. */
  readonly what: string;
}

/** Options of {@linkcode requireHostMemory}, replaced by tests. */
export interface HostMemoryOptions extends ExchangeOptions {
  readonly limit?: HostMemoryLimit | undefined;
  /** Ranks with the same name share one memory. */
  readonly host?: string;
}

/**
 * Compares `bytes` of host tensors of this rank, with those of the other ranks of its machine, with what the machine
 * has. Every rank calls it. Where nothing may be asked of the system, nothing is refused.
 *
 * @throws {UserError} on every rank of a machine that has too little.
 */
export async function requireHostMemory(
  communicator: Communicator,
  bytes: number,
  options: HostMemoryOptions = {},
): Promise<void> {
  const { host = communicator.size === 1 ? "" : Deno.hostname(), ...exchange } = options;
  const all = communicator.size === 1 ? [{ host, bytes }] : await gatherValues(communicator, { host, bytes }, exchange);
  const here = all.filter((other) => other.host === host);
  const needed = here.reduce((sum, { bytes }) => sum + bytes, 0);
  if (needed === 0) return;
  const { limit = hostMemoryLimit() } = options;
  if (limit === undefined || needed <= SHARE * limit.bytes) return;
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  const ranks = here.length > 1 ? `, in ${here.length} ranks` : "";
  throw new UserError(
    `This run keeps ${gib(needed)} in the memory of the machine${ranks}: ${
      gib(limit.bytes)
    } ${limit.what}, of which it ` +
      `may take ${100 * SHARE} %`,
    HOST_MEMORY_HINT,
  );
}

/** The smaller of what is free and of what a container allows; undefined without the permission to ask. */
export function hostMemoryLimit(read: (path: string) => string = readText): HostMemoryLimit | undefined {
  const { state } = Deno.permissions.querySync({ name: "sys", kind: "systemMemoryInfo" });
  const free = state === "granted" ? [{ bytes: Deno.systemMemoryInfo().available, what: "are free" }] : [];
  const limits = [...free, ...containerLimits(read)];
  return limits.length === 0 ? undefined : limits.reduce((a, b) => b.bytes < a.bytes ? b : a);
}

/**
 * Limits of the control groups of this process, of both versions. What a group uses already is left out: it counts the
 * cache of files too, which gives way.
 */
function containerLimits(read: (path: string) => string): HostMemoryLimit[] {
  const tried = (path: string) => {
    try {
      return read(path);
    } catch {
      return "";
    }
  };
  // "9:memory:/path" in version 1, "0::/path" in version 2.
  const groups = [...tried("/proc/self/cgroup").matchAll(/^\d+:([^:\n]*):(.*)$/gm)].map(([, kinds, path]) => {
    if (kinds === "") return `/sys/fs/cgroup${path}/memory.max`;
    return kinds!.split(",").includes("memory") ? `/sys/fs/cgroup/memory${path}/memory.limit_in_bytes` : "";
  });
  // Inside a container its own group lies at the root.
  const files = [...groups, "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
  return files.map((file) => parseInt(tried(file), 10)).filter((bytes) => bytes > 0)
    .map((bytes) => ({ bytes, what: "are what its container or control group allows" }));
}

function readText(path: string): string {
  return readFileSync(path, "utf8");
}
