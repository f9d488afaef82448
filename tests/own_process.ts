/**
 * Tests in a process of their own, for those that change the environment: files that are tested at the same time are threads of one
 * process and share it.
 */
import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { fromFileUrl } from "./paths.ts";

/** Declares a test that the tests of `file`, relative to the module `base`, pass in a process of their own. */
export function testInOwnProcess(file: string, base: string): void {
  const path = fromFileUrl(file, base);
  Deno.test(`tests of ${join(basename(dirname(path)), basename(path))} pass`, async () => {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--quiet", path],
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assert.ok(success, `${text(stdout)}${text(stderr)}`);
  });
}
