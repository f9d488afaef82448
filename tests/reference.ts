/** Finds the golden tensors that PyTorch diffusers wrote; a clone without them still runs every other test. */
import { existsSync } from "node:fs";
import { fromFileUrl } from "./paths.ts";

const candidates = ["../../shared/reference", "../shared/reference"].map((path) => fromFileUrl(path, import.meta.url));

/** Folder of the full reference set, or undefined when this checkout has none beside it. */
export const referenceFolder: string | undefined = candidates.find((folder) => existsSync(folder));

/** Folder of the real clips that go with the reference set. */
export const clipsFolder: string | undefined = referenceFolder?.replace(/reference$/, "data/clips");

/** Registers a test that needs the reference set; without it the test is reported as ignored, which `deno test` counts. */
export function referenceTest(name: string, body: (folder: string) => void | Promise<void>): void {
  const folder = referenceFolder;
  Deno.test({ name, ignore: folder === undefined, fn: () => body(folder!) });
}
