import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { lockFolder } from "../../lib/io/lock.ts";
import { withFolder } from "./faulty_operations.ts";

const holdLock = `
  const { lockFolder } = await import(Deno.args[0]);
  lockFolder(Deno.args[1]);
  console.log("held");
  setInterval(() => {}, 1000);
`;

Deno.test("lockFolder: a second holder is refused and told the process id", () =>
  withFolder((folder) => {
    {
      using _lock = lockFolder(folder);
      assert.throws(
        () => lockFolder(folder),
        (error) => error instanceof UserError && error.message.includes(`process ${Deno.pid} on `),
      );
    }
    lockFolder(folder)[Symbol.dispose]();
  }));

Deno.test("lockFolder: creates the folder, and a stale lock file is no lock", () =>
  withFolder((parent) => {
    const folder = join(parent, "out");
    lockFolder(folder)[Symbol.dispose]();
    assert.ok(existsSync(folder));
    writeFileSync(join(folder, ".lock"), "process 1 on elsewhere, started long ago, with quite a long label\n");
    using _lock = lockFolder(folder);
    assert.throws(() => lockFolder(folder), (error) => !String(error).includes("elsewhere"));
  }));

Deno.test("lockFolder: another process is named, and its death frees the lock", () =>
  withFolder(async (folder) => {
    const module = new URL("../../lib/io/lock.ts", import.meta.url).href;
    const script = join(folder, "hold.ts");
    writeFileSync(script, holdLock);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--no-config", script, module, folder],
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    try {
      await reader.read();
      assert.throws(() => lockFolder(folder), new RegExp(`process ${child.pid} `));
    } finally {
      child.kill("SIGKILL");
      await child.status;
      await reader.cancel();
    }
    lockFolder(folder)[Symbol.dispose]();
  }));
