/** More connections than a process may have, requests that never end, and answers that fail: the run beside them is not touched. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { listen } from "../../../lib/cli/dashboard/listen.ts";
import { serveDashboard } from "../../../lib/cli/dashboard/server.ts";
import { trainWords, withCopies } from "../../bad_input/command.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { fromFileUrl } from "../../paths.ts";
import { writeRun } from "./pages.ts";

/** Connections of a flood: more than the server takes, and than the run of the test may have files. */
const FLOOD = 600;
const FILES = 512;

/** Opens a connection with half a request; resolves when the server has closed it. */
async function halfRequest(port: number, open: Set<Deno.Conn>): Promise<void> {
  let connection: Deno.Conn;
  try {
    connection = await Deno.connect({ hostname: "127.0.0.1", port });
  } catch {
    return;
  }
  open.add(connection);
  try {
    await connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\nhost: "));
    // What comes may be a word on the time that is up.
    while (await connection.read(new Uint8Array(1000)) !== null);
  } catch {
    // It was closed while something was on the way.
  } finally {
    if (open.delete(connection)) connection.close();
  }
}

function closeAll(open: Set<Deno.Conn>): void {
  for (const connection of open) {
    open.delete(connection);
    connection.close();
  }
}

/** The page that the user sees, asked for until the server has a place for the question. */
async function pageOf(address: string): Promise<string> {
  for (;;) {
    try {
      const entered = await fetch(address, { redirect: "manual" });
      const cookie = entered.headers.get("set-cookie")!.split(";")[0]!;
      await entered.body?.cancel();
      return await (await fetch(new URL("/", address), { headers: { cookie } })).text();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

Deno.test("of six hundred connections at a time some are taken, the late ones are closed, and the user is answered", () =>
  withFolder(async (folder) => {
    await writeRun(folder);
    await using dashboard = await serveDashboard(folder, 0);
    const port = Number(new URL(dashboard.address).port);
    const open = new Set<Deno.Conn>();
    const ends = Array.from({ length: FLOOD }, () => halfRequest(port, open));
    assert.match(await pageOf(dashboard.address), /<!doctype html>/i);
    // Those beyond the limit at once, the others when their time is up; none has to be closed from this side.
    await Promise.all(ends);
    assert.equal(open.size, 0);
    assert.match(await pageOf(dashboard.address), /<!doctype html>/i);
  }));

Deno.test("a run that may open few files trains and saves the same bits under a flood of connections", () =>
  withCopies(async (folder) => {
    const program = [Deno.execPath(), "run", "-A", "--quiet", fromFileUrl("../../../mod.ts", import.meta.url)];
    const words = (name: string) =>
      trainWords(folder, "--train_steps=3", "--checkpointing_steps=1", `--output_dir=${join(folder, name)}`);
    const quiet = await new Deno.Command(program[0]!, { args: [...program.slice(1), ...words("quiet")] }).output();
    assert.ok(quiet.success, new TextDecoder().decode(quiet.stderr));
    const child = new Deno.Command("bash", {
      args: ["-c", `ulimit -n ${FILES}; exec "$@"`, "bash", ...program, ...words("flooded"), "--dashboard=0"],
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const open = new Set<Deno.Conn>();
    let running = true;
    let made = 0;
    let text = "";
    const flood = async (port: number) => {
      while (running) {
        made++;
        await halfRequest(port, open);
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    };
    const floods: Promise<void>[] = [];
    const reading = (async () => {
      for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
        text += part;
        const [, port] = /^Dashboard: http:\/\/127\.0\.0\.1:(\d+)\//m.exec(text) ?? [];
        if (port === undefined || floods.length > 0) continue;
        floods.push(...Array.from({ length: FLOOD }, () => flood(Number(port))));
      }
    })();
    const [{ code }, error] = await Promise.all([child.status, child.stderr.text(), reading]);
    running = false;
    closeAll(open);
    await Promise.all(floods);
    assert.equal(code, 0, `${text}${error}`);
    assert.ok(made >= FLOOD, `${made} connections`);
    assert.doesNotMatch(`${text}${error}`, /open files|cannot|could not/i);
    const state = (name: string) => readFileSync(join(folder, name, "checkpoint-3", "state.safetensors"));
    assert.deepEqual(state("flooded"), state("quiet"));
  }));

Deno.test("where the usual port is taken another one is used, and one that was asked for is not replaced", () =>
  withFolder(async (folder) => {
    await writeRun(folder);
    // Whoever has it, this server or another one: the second takes any.
    await using first = await serveDashboard(folder);
    await using second = await serveDashboard(folder);
    const [a, b] = [first, second].map(({ address }) => new URL(address).port);
    assert.notEqual(a, b);
    for (const { address } of [first, second]) assert.match(await pageOf(address), /<!doctype html>/i);
    await assert.rejects(serveDashboard(folder, Number(a)), /Port \d+ is taken/);
  }));

Deno.test("an answer that fails is an answer without details, and the next one is given", async () => {
  let asked = 0;
  await using server = (await listen("127.0.0.1", 0, () => {
    asked++;
    if (asked === 1) throw new Error("a secret");
    if (asked === 2) return Promise.reject(new Error("a secret"));
    if (asked === 3) {
      return Promise.resolve(new Response(new ReadableStream({ pull: () => Promise.reject("a secret") })));
    }
    return Promise.resolve(new Response("well"));
  }))!;
  const ask = async () => {
    const response = await fetch(`http://127.0.0.1:${server.port}/`);
    return [response.status, await response.text()] as const;
  };
  for (let i = 0; i < 2; i++) assert.deepEqual(await ask(), [500, "The page could not be made.\n"]);
  // One that fails in the middle ends as it may.
  await ask().catch(() => {});
  assert.deepEqual(await ask(), [200, "well"]);
  assert.equal(await listen("127.0.0.1", server.port, () => Promise.reject()), undefined);
});
