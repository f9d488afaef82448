/** Models by hub id, from a hub on this machine that serves the tiny model of the repository. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { UserErrors } from "../../../lib/errors.ts";
import { localModelPath, parseHubId, resolveModelPath } from "../../../lib/models/folder/hub.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { checkParts } from "../../../lib/train/checks/check_model.ts";
import { tokenizerJson } from "../../data/text/tokenizer_case.ts";
import { entryOf, FakeHub, refused, resolve, tiny, withHub } from "./fake_hub.ts";

Deno.test("parseHubId: owner/name with and without revision, and no path", () => {
  assert.deepEqual(parseHubId("THUDM/CogVideoX-5b"), { owner: "THUDM", name: "CogVideoX-5b", revision: undefined });
  assert.equal(parseHubId("a/b.c_d@refs/pr/1")?.revision, "refs/pr/1");
  for (const path of ["b", "/a/b", "./a/b", "../b", "a/b/c", "a/..", "a\\b", "a/b@", "a/b@/x", "a/b\0"]) {
    assert.equal(parseHubId(path), undefined, path);
  }
});

Deno.test("a model by id: its needed files, small ones first, every byte reported, then no network", () =>
  withHub(async (hub, options) => {
    const { folder, events } = await resolve("owner/name", options);
    assert.equal(folder, join(options.cacheFolder, "owner--name"));
    for (const [path, bytes] of hub.files) assert.deepEqual(new Uint8Array(readFileSync(join(folder, path))), bytes);
    const found = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile()
    ).length;
    assert.equal(found, hub.files.size + 3, "the model, the record, what was verified and the lock");
    assert.deepEqual(readdirSync(options.cacheFolder), ["owner--name"]);
    openModelFolder(folder);

    const total = [...hub.files.values()].reduce((sum, { length }) => sum + length, 0);
    const downloads = events.filter((event) => event.type === "download");
    assert.ok(downloads.every((event) => event.total === total && event.model === "owner/name"));
    assert.equal(downloads.at(-1)!.done, total);
    assert.ok(downloads.every(({ done }, i) => i === 0 || done >= downloads[i - 1]!.done));
    const weights = downloads.map(({ file }) => file.endsWith(".safetensors"));
    assert.equal(weights.lastIndexOf(false) + 1, weights.indexOf(true));

    hub.asked.length = 0;
    hub.commit = "b".repeat(40);
    assert.deepEqual(await resolve("owner/name", options), { folder, events: [] });
    assert.equal(await localModelPath("owner/name", options), folder);
    assert.deepEqual(hub.asked, []);
  }));

Deno.test("a folder wins over an id, and a path is left alone", () =>
  withHub(async (hub, options) => {
    assert.equal((await resolve(tiny, options)).folder, tiny);
    assert.equal((await resolve("./no/such/folder", options)).folder, "./no/such/folder");
    assert.equal(await localModelPath("x/y/z", options), "x/y/z");
    await assert.rejects(localModelPath("owner/name", options), /no model of this id is downloaded/);
    assert.deepEqual(hub.asked, []);
  }));

Deno.test("an interrupted download continues with the commit it began with", () =>
  withHub(async (hub, options) => {
    const weights = "transformer/diffusion_pytorch_model.safetensors", bytes = hub.files.get(weights)!;
    hub.intercept = (_, path) => path.endsWith(weights) ? new Response(null, { status: 503 }) : undefined;
    await refused("owner/name", options, /503[^]*continues where it stopped/);
    writeFileSync(join(options.cacheFolder, "owner--name", `${weights}.part`), bytes.slice(0, 1_000_000));
    // The branch moves on in between.
    hub.commit = "b".repeat(40);
    hub.asked.length = 0;
    const ranges: (string | null)[] = [];
    hub.intercept = (request) => void ranges.push(request.headers.get("range"));
    const { folder } = await resolve("owner/name", options);
    assert.deepEqual(new Uint8Array(readFileSync(join(folder, weights))), bytes);
    assert.ok(hub.asked.every((path) => path.startsWith(`/owner/name/resolve/${"a".repeat(40)}/`)), `${hub.asked}`);
    assert.equal(ranges[hub.asked.findIndex((path) => path.endsWith(weights))], "bytes=1000000-");
  }));

Deno.test("a missing or cut file of a complete model is downloaded again", () =>
  withHub(async (hub, options) => {
    const { folder } = await resolve("owner/name", options);
    rmSync(join(folder, "vae/config.json"));
    writeFileSync(join(folder, "model_index.json"), "{}");
    hub.asked.length = 0;
    await resolve("owner/name", options);
    assert.equal(hub.asked.length, 2);
    for (const file of ["vae/config.json", "model_index.json"]) {
      assert.deepEqual(new Uint8Array(readFileSync(join(folder, file))), hub.files.get(file));
    }
  }));

Deno.test("a revision has a folder of its own; one that is not there is told by name", () =>
  withHub(async (_, options) => {
    const { folder } = await resolve("owner/name@v1", options);
    assert.equal(folder, join(options.cacheFolder, "owner--name@v1"));
    await refused("owner/name@none", options, /neither a folder "owner\/name@none" nor a model of this id/);
  }));

Deno.test("refusals say what to do: an unknown id, a private or gated model, a token without access", () =>
  withHub(async (hub, options) => {
    await refused("owner/other", options, /nor a model of this id[^]*check the spelling/);
    const answer = (status: number, code: string) => {
      hub.intercept = () => new Response(null, { status, headers: { "x-error-code": code } });
    };
    answer(401, "RepoNotFound");
    await refused("owner/name", options, /not give "owner\/name" to everyone[^]*check the spelling[^]*HF_TOKEN/);
    answer(401, "GatedRepo");
    await refused(
      "owner/name",
      options,
      /accept its terms at http[^ ]*\/owner\/name and put an access token[^]*HF_TOKEN/,
    );
    answer(403, "GatedRepo");
    const secret = { ...options, token: "hf_secret" };
    await refused("owner/name", secret, /to the owner of the token in HF_TOKEN[^]*accept its terms/);
    await assert.rejects(resolve("owner/name", secret), (error: Error) => !error.message.includes("hf_secret"));
    assert.deepEqual(readdirSync(options.cacheFolder), []);
  }));

Deno.test("the token goes to the hub and not to where it stores large files", () =>
  withHub(async (hub, options) => {
    await using storage = new FakeHub();
    const seen = new Map<string, Set<string | null>>([["hub", new Set()], ["storage", new Set()]]);
    storage.intercept = (request) => void seen.get("storage")!.add(request.headers.get("authorization"));
    hub.intercept = (request, path) => {
      seen.get("hub")!.add(request.headers.get("authorization"));
      return path.endsWith(".safetensors") ? Response.redirect(`${storage.endpoint}${path}`) : undefined;
    };
    await resolve("owner/name", { ...options, token: "hf_secret" });
    assert.deepEqual([...seen.get("hub")!], ["Bearer hf_secret"]);
    assert.deepEqual([...seen.get("storage")!], [null]);
    await refused("owner/name2", { ...options, endpoint: "http://hub.example" }, /begins with https/);
  }));

Deno.test("another kind of repository is refused before its weights are downloaded, with all that is missing", () =>
  withHub(async (hub, options) => {
    hub.files.set("model_index.json", new TextEncoder().encode('{"_class_name": "OtherPipeline"}'));
    await refused("owner/name", options, /model_index.json says OtherPipeline/);
    assert.ok(!hub.asked.some((path) => path.endsWith(".safetensors")));
    rmSync(join(options.cacheFolder, "owner--name"), { recursive: true });
    for (
      const path of [
        "vae/config.json",
        "tokenizer/spiece.model",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
      ]
    ) {
      hub.files.delete(path);
    }
    await assert.rejects(resolve("owner/name", options), (error: unknown) => {
      assert.ok(error instanceof UserErrors);
      assert.deepEqual(error.problems, [
        "vae/config.json is missing",
        "tokenizer/spiece.model or tokenizer/tokenizer.json is missing",
        "text_encoder has no weights as safetensors",
      ]);
      return true;
    });
  }));

Deno.test("of variants the plain weights are downloaded, else one variant; tokenizer.json stands in for spiece.model", () =>
  withHub(async (hub, options) => {
    const weights = [...hub.files.keys()].filter((path) => path.endsWith(".safetensors"));
    const variant = (path: string, name: string) => path.replace(/\.safetensors$/, `.${name}.safetensors`);
    for (const path of weights) hub.files.set(variant(path, "fp16"), hub.files.get(path)!);
    const asked = () =>
      hub.asked.filter((path) => path.endsWith(".safetensors")).map((path) => path.replace(/^.*a{40}./, ""));
    await resolve("owner/name", options);
    assert.deepEqual(asked().sort(), weights.toSorted());
    for (const path of weights) {
      hub.files.set(variant(path, "bf16"), hub.files.get(path)!);
      hub.files.delete(path);
    }
    const spiece = "tokenizer/spiece.model";
    hub.files.set(
      "tokenizer/tokenizer.json",
      new TextEncoder().encode(JSON.stringify(tokenizerJson(hub.files.get(spiece)!))),
    );
    hub.files.delete(spiece);
    hub.asked.length = 0;
    const { folder } = await resolve("owner/name@v1", options);
    assert.deepEqual(asked().sort(), weights.map((path) => variant(path, "bf16")).sort());
    checkParts(openModelFolder(folder));
  }));

Deno.test("a damaged file is never installed; a disk that is too small is found before the first byte", () =>
  withHub(async (hub, options) => {
    const path = "vae/diffusion_pytorch_model.safetensors";
    const wrong = hub.files.get(path)!.map((byte) => byte ^ 1);
    hub.intercept = (_, asked) => asked.endsWith(path) ? new Response(wrong) : undefined;
    await refused("owner/name", options, /vae\/diffusion_pytorch_model.safetensors is damaged or another file/);
    assert.deepEqual(readdirSync(dirname(join(options.cacheFolder, "owner--name", path))), ["config.json"]);
    hub.asked.length = 0;
    const huge = entryOf("transformer/diffusion_pytorch_model-00001-of-00002.safetensors", new Uint8Array(1));
    hub.intercept = (_, asked) =>
      asked.includes("/tree/")
        ? Response.json([...[...hub.files].map(([path, bytes]) => entryOf(path, bytes)), { ...huge, size: 2e15 }])
        : undefined;
    const total = [...hub.files.values()].reduce((sum, { length }) => sum + length, 2e15);
    await refused("owner/name@v1", options, new RegExp(`Not enough disk space[^]*${total} bytes are wanted`));
    assert.ok(!hub.asked.some((path) => path.includes("/resolve/")));
  }));

Deno.test("two processes that want one model: one downloads, the other waits and uses it", () =>
  withHub(async (hub, options) => {
    const first = resolveModelPath("owner/name", { ...options, token: undefined });
    await first.next();
    const second = resolve("owner/name", options);
    for (;;) if ((await first.next()).done) break;
    const asked = hub.asked.length;
    const { folder, events } = await second;
    assert.match(JSON.stringify(events), /waiting for another process that downloads owner\/name/);
    assert.equal(events.length, 1);
    assert.equal(hub.asked.length, asked);
    openModelFolder(folder);
  }));
