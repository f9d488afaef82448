/** Groups that cannot come about: too little memory, or a launcher that is gone. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { peerFailureCode } from "../../../lib/comm/exchange/communicator.ts";
import { groupVariable } from "../../../lib/comm/launch/membership.ts";
import { createRegion, openRegion } from "../../../lib/comm/shared_memory/region.ts";
import { UserError } from "../../../lib/errors.ts";
import { statIfThere } from "../../../lib/io/file_operations.ts";
import { fromFileUrl } from "../../paths.ts";

Deno.test("memory that the machine lacks is refused with what is there, and no file of it stays open", () => {
  // Other tests of this process have regions too, but none of this size.
  const huge = () =>
    readdirSync("/proc/self/fd").filter((name) => (statIfThere(`/proc/self/fd/${name}`)?.size ?? 0) > 2 ** 45);
  for (const [staging, message] of [[2 ** 45, /takes 33554432 MiB, \d+ MiB are free/], [0, /error 22/]] as const) {
    assert.throws(
      () => createRegion({ size: 2, staging, arena: 65536 }),
      (error) => error instanceof UserError && message.test(error.summary) && /fewer GPUs/.test(error.hint!),
    );
  }
  assert.throws(() => openRegion("/proc/self/fd/none", { size: 1, staging: 65536, arena: 0 }), /the launcher is gone/);
  assert.deepEqual(huge(), []);
});

Deno.test("a rank whose launcher died before it could join ends at once, with the code of a peer's failure", async () => {
  const group = { rank: 1, launcher: 1, path: "/proc/1/fd/3", shape: {}, deadlines: {} };
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", fromFileUrl("../exchange/exchange_program.ts", import.meta.url)],
    env: { [groupVariable]: JSON.stringify(group) },
  }).output();
  assert.equal(code, peerFailureCode);
  assert.equal(new TextDecoder().decode(stdout), "rank 1: the launcher is gone\n");
});
