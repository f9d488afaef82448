/** Folders of downloaded models that something else has changed, taken or blocked. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { recheckModels, resolveModelPath } from "../../../lib/models/folder/hub.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { refused, resolve, withHub } from "./fake_hub.ts";

Deno.test("a file in the place of a folder of a model, of the model or of the cache is named", () =>
  withHub(async (hub, options) => {
    const { folder } = await resolve("owner/name", options);
    rmSync(join(folder, "vae"), { recursive: true });
    writeFileSync(join(folder, "vae"), "in the way");
    hub.asked.length = 0;
    await refused("owner/name", options, /Cannot create ".*vae": a file stands where a folder is expected/);
    assert.deepEqual(hub.asked, []);
    assert.throws(() => openModelFolder(join(folder, "vae")), /Cannot use model_path .*vae" is no folder/s);
    assert.throws(() => openModelFolder(join(folder, "none")), /Cannot use model_path .*none" does not exist/s);
    const cacheFolder = join(folder, "vae");
    await refused("owner/name", { ...options, cacheFolder }, /Cannot lock ".*": a file stands where a folder/);
  }));

Deno.test("a whole model is used and checked where its folder cannot be taken", () =>
  withHub(async (hub, options) => {
    const { folder } = await resolve("owner/name", options);
    rmSync(join(folder, ".lock"));
    mkdirSync(join(folder, ".lock"));
    // A list that cannot be read is no list: everything is hashed.
    writeFileSync(join(folder, "verified.json"), "{");
    hub.asked.length = 0;
    const { events } = await resolve("owner/name", options);
    assert.match(JSON.stringify(events), new RegExp(`checking ${hub.files.size} files of owner/name`));
    assert.deepEqual(hub.asked, []);
    assert.deepEqual((await resolve("owner/name", options)).events, []);
    utimesSync(join(folder, "vae", "config.json"), 1e9, 1e9);
    assert.match(JSON.stringify((await resolve("owner/name", options)).events), /checking 1 files/);
  }));

Deno.test("who stops waiting for another process gives the folder free", () =>
  withHub(async (_, options) => {
    const first = resolveModelPath("owner/name", { ...options, token: undefined });
    await first.next();
    const stop = new AbortController();
    const second = resolveModelPath("owner/name", { ...options, token: undefined, signal: stop.signal });
    assert.match(JSON.stringify(await second.next()), /waiting for another process/);
    stop.abort();
    await assert.rejects(second.next(), { name: "AbortError" });
    await first.return("");
    await resolve("owner/name", options);
  }));

Deno.test("doctor --models passes over what is no downloaded model", () =>
  withHub(async (_, options) => {
    await resolve("owner/name", options);
    mkdirSync(join(options.cacheFolder, "notes"));
    writeFileSync(join(options.cacheFolder, "a file"), "");
    const models: string[] = [];
    for await (const { model, damaged } of recheckModels(options.cacheFolder)) {
      models.push(`${model} ${damaged.length}`);
    }
    assert.deepEqual(models, ["owner/name 0"]);
  }));
