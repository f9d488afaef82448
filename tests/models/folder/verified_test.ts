/** Downloaded models are hashed once, and again when a file is not what it was. */
import assert from "node:assert/strict";
import { readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkModels } from "../../../lib/cli/commands/doctor.ts";
import { UserErrors } from "../../../lib/errors.ts";
import { localModelPath } from "../../../lib/models/folder/hub.ts";
import { type FakeHub, resolve, withHub } from "./fake_hub.ts";

/** A large file with a SHA-256 and a small one with git's hash. */
const VICTIMS = ["vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"];

/** Flips one bit in the middle of a file; with `quiet` as a bad disk does, which leaves its time alone. */
function flip(path: string, quiet = false): void {
  const { atime, mtime } = statSync(path);
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 4;
  writeFileSync(path, bytes);
  // Whatever the resolution of its clock, the file system tells this time from the one before.
  utimesSync(path, atime, quiet ? mtime : new Date(mtime.getTime() + 2000));
}

function requireWhole(hub: FakeHub, folder: string): void {
  for (const [path, bytes] of hub.files) {
    assert.deepEqual(new Uint8Array(readFileSync(join(folder, path))), bytes, path);
  }
}

Deno.test("a flipped bit in a downloaded file is found before use, and the file alone is downloaded again", () =>
  withHub(async (hub, options) => {
    const { folder } = await resolve("owner/name", options);
    for (const victim of VICTIMS) {
      flip(join(folder, victim));
      await assert.rejects(localModelPath("owner/name", options), (error: unknown) => {
        assert.ok(error instanceof UserErrors);
        assert.deepEqual(error.problems, [`${join(folder, victim)} has another hash than the hub's`]);
        return true;
      });
      hub.asked.length = 0;
      const { events } = await resolve("owner/name", options);
      const told = events.flatMap((event) => event.type === "status" ? [event.message] : []);
      assert.match(
        told.join("\n"),
        /^checking 1 files of owner\/name \(0.0 GB\)\n.*is damaged and is downloaded again$/,
      );
      assert.ok(told[1]!.includes(victim));
      assert.deepEqual(hub.asked, [`/owner/name/resolve/${hub.commit}/${victim}`]);
      requireWhole(hub, folder);
      assert.deepEqual((await resolve("owner/name", options)).events, []);
    }
  }));

Deno.test("a file that was only touched or copied is hashed once more and not downloaded", () =>
  withHub(async (hub, options) => {
    const { folder } = await resolve("owner/name", options);
    const touch = () => utimesSync(join(folder, VICTIMS[0]!), 1e9, 1e9);
    // Without its list, as in a folder that was copied from another machine, everything counts as unknown.
    for (
      const [disturb, files] of [[touch, 1], [() => rmSync(join(folder, "verified.json")), hub.files.size]] as const
    ) {
      disturb();
      hub.asked.length = 0;
      const { events } = await resolve("owner/name", options);
      assert.deepEqual(events.map(({ type }) => type), ["status"]);
      assert.match(JSON.stringify(events), new RegExp(`checking ${files} files`));
      assert.deepEqual((await resolve("owner/name", options)).events, []);
      assert.equal(await localModelPath("owner/name", options), folder);
      assert.deepEqual(hub.asked, []);
    }
    writeFileSync(join(folder, "verified.json"), "{");
    assert.equal((await resolve("owner/name", options)).events.length, 1);
  }));

Deno.test("a bit that the disk changed without a trace is found by doctor --models, and mended by the next run", () =>
  withHub(async (hub, options) => {
    const { folder } = await resolve("owner/name", options);
    await resolve("owner/name@v1", options);
    const checks = () => Array.fromAsync(checkModels(options.cacheFolder));
    assert.deepEqual((await checks()).map(({ status }) => status), ["ok", "ok"]);
    flip(join(folder, VICTIMS[0]!), true);
    rmSync(join(folder, VICTIMS[1]!));
    assert.equal(statSync(join(folder, VICTIMS[0]!)).size, hub.files.get(VICTIMS[0]!)!.length);
    const [first, second] = await checks();
    assert.deepEqual([first!.status, second!.status], ["problem", "ok"]);
    assert.match(first!.found, /^owner\/name: 2 of 12 files.*damaged: scheduler\/.*json, vae\/.*safetensors$/);
    await resolve("owner/name", options);
    requireWhole(hub, folder);
    assert.deepEqual((await checks()).map(({ status }) => status), ["ok", "ok"]);
    const none = await Array.fromAsync(checkModels(join(options.cacheFolder, "none")));
    assert.deepEqual(none, [{ name: "Model", status: "ok", found: "none is downloaded" }]);
  }));
