/**
 * Runs the tests that put stand-ins for ffmpeg on the PATH in a process of their own: files that are tested at the same time are
 * threads of one process and share its environment.
 */
import assert from "node:assert/strict";
import { fromFileUrl } from "../paths.ts";

for (const name of ["video_tools.ts", "slow_tools.ts"]) {
  Deno.test(`tests of ${name}, which replace the PATH, pass`, async () => {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--quiet", fromFileUrl(`./own_path/${name}`, import.meta.url)],
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assert.ok(success, `${text(stdout)}${text(stderr)}`);
  });
}
