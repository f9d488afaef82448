import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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

Deno.test("renew: a folder that somebody has removed is taken again, unless another was faster", () =>
  withFolder((parent) => {
    const folder = join(parent, "out");
    {
      using lock = lockFolder(folder);
      assert.equal(lock.renew(), false);
      rmSync(folder, { recursive: true });
      assert.equal(lock.renew(), true);
      assert.throws(() => lockFolder(folder), /in use by process/);
      rmSync(folder, { recursive: true });
      using _other = lockFolder(folder);
      // The refusal is what the user is to see, so giving up the first lock must not fail after it.
      assert.throws(() => lock.renew(), /in use by process/);
    }
    {
      using lock = lockFolder(folder);
      rmSync(folder, { recursive: true });
      writeFileSync(folder, "in the way");
      assert.throws(() => lock.renew(), /Cannot lock ".*out": a file stands where a folder/);
      rmSync(folder);
    }
    lockFolder(folder)[Symbol.dispose]();
  }));

Deno.test("lockFolder: a path that cannot be a folder, and a holder that has not said who it is", () =>
  withFolder((parent) => {
    writeFileSync(join(parent, "file"), "");
    for (const path of [join(parent, "file"), join(parent, "file", "out")]) {
      assert.throws(() => lockFolder(path), new RegExp(`Cannot lock "${path}": a file stands where a folder`));
    }
    using holder = Deno.openSync(join(parent, ".lock"), { write: true, create: true });
    holder.lockSync(true);
    assert.throws(() => lockFolder(parent), /is in use by another process/);

    // A lock that cannot be labelled is not kept either.
    const odd = join(parent, "odd");
    mkdirSync(odd);
    symlinkSync("/dev/full", join(odd, ".lock"));
    assert.throws(() => lockFolder(odd));
    using device = Deno.openSync("/dev/full", { write: true });
    assert.equal(device.tryLockSync(true), true);
  }));
