/** What the driver itself says of memory, to hold the program's own count against. */

/** Memory in use on the first card, in bytes; undefined where no `nvidia-smi` says so. */
export function driverBytes(): number | undefined {
  try {
    const args = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    const { stdout } = new Deno.Command("nvidia-smi", { args }).outputSync();
    return Number.parseInt(new TextDecoder().decode(stdout)) * 2 ** 20;
  } catch {
    return undefined;
  }
}

/** Bytes that came in use since `before`, where the driver tells. */
export function bytesSince(before: number | undefined): number | undefined {
  const used = driverBytes();
  return used === undefined || before === undefined ? undefined : used - before;
}
