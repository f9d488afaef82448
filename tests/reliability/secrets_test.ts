/** What must stay secret is in no output: of a run that works, of commands that look around, and of those that fail. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { uploadFiles } from "../../lib/models/folder/hub_upload.ts";
import { hubAccess } from "../../lib/models/folder/hub_server.ts";
import { program, trainWords, withCopies } from "../bad_input/command.ts";
import { resolve, withHub } from "../models/folder/fake_hub.ts";

/** What no file and no message may hold. */
const SECRET = "Zq7sEcReT";

/** Names under which people keep secrets, and the one that this program reads. */
const ENVIRONMENT = Object.fromEntries(
  ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DB_PASSWORD"]
    .map((name) => [name, `hf_${SECRET}${name.length}`]),
);

function assertClean(text: string, where: string): void {
  const at = text.indexOf(SECRET);
  assert.equal(at, -1, `${where}: ${text.slice(Math.max(0, at - 80), at + 40)}`);
}

Deno.test("a token is in no message, metric, page, checkpoint, profile or report", () =>
  withHub((hub) =>
    withCopies(async (folder) => {
      hub.intercept = (request) => Response.json({ error: request.headers.get("authorization") }, { status: 401 });
      const busy = (words: string[]) => program(words, { ...ENVIRONMENT, HF_ENDPOINT: hub.endpoint });
      const run = trainWords(folder, "--profile=1", "--report_to=tensorboard", "--push_to_hub=me/star");
      const commands: Record<string, { readonly words: string[]; readonly code: number }> = {
        "a run whose push fails": { words: run, code: 0 },
        "a run as JSON": { words: [...run, "--json", "--resume_from_checkpoint=latest", "--train_steps=3"], code: 0 },
        "a run with a wrong setting": { words: [...run, "--rank=x"], code: 2 },
        "a run of a model that is not there": { words: [...run, "--model_path=me/nothing"], code: 2 },
        "doctor": { words: ["doctor", "--json"], code: 0 },
        "a push that is refused": { words: ["push", join(folder, "run"), "--repo=me/star"], code: 2 },
        "plan": { words: ["plan", "--preset=2b-lora", "--json"], code: 0 },
        "data check": {
          words: ["data", "check", "--data_root", join(folder, "clips"), "--html", join(folder, "page.html")],
          code: 0,
        },
      };
      for (const [name, { words, code }] of Object.entries(commands)) {
        const outcome = await busy(words);
        assert.equal(outcome.code, code, `${name}: ${outcome.error}`);
        assertClean(outcome.out + outcome.error, name);
      }
      const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
      for (const { parentPath, name } of files) {
        assertClean(readFileSync(join(parentPath, name), "latin1"), join(parentPath, name));
      }
      assert.ok(
        files.some(({ name }) => name.startsWith("events.out")) && files.some(({ name }) => name === "index.html"),
      );
    })
  ));

Deno.test("a token that no request can hold, and a password in an address, are refused without being shown", () => {
  for (const token of [`hf_${SECRET}\r\nx: y`, `hf_${SECRET} x`, `hf_${SECRET}\u00e9`, `hf_${SECRET}\0`]) {
    assert.throws(() => hubAccess({ token }), (error) => {
      assert.ok(error instanceof UserError && error.hint !== undefined);
      assertClean(error.message, "message");
      return /^HF_TOKEN is no access token/.test(error.message);
    });
  }
  assert.equal(hubAccess({ token: ` hf_${SECRET}\n` }).token, `hf_${SECRET}`);
  for (const endpoint of [`https://me:${SECRET}@hub.example`, `https://${SECRET}@hub.example/x`]) {
    assert.throws(() => hubAccess({ endpoint }), (error) => {
      assert.ok(error instanceof UserError && error.hint !== undefined);
      assertClean(error.message, "message");
      return /at hub\.example, holds a user name or a password/.test(error.message);
    });
  }
});

Deno.test("a hub that sends a token back does not get it shown", () =>
  withHub(async (hub, options) => {
    const token = `hf_${SECRET}`;
    const echoes: ((words: string) => Response)[] = [
      (words) => new Response(`<html>${words}`),
      (words) => new Response(null, { status: 500, statusText: words }),
      (words) => new Response(null, { status: 403, statusText: words }),
      (words) => new Response(null, { status: 302, headers: { location: `ftp://${words.split(" ")[1]}` } }),
    ];
    for (const [i, echo] of echoes.entries()) {
      hub.intercept = (request) => echo(`${request.headers.get("authorization")}`);
      for (
        const attempt of [
          () => resolve("owner/name", { ...options, token }),
          () =>
            uploadFiles("me/star", [{ name: "a", content: { text: "a" } }], {
              ...{ endpoint: hub.endpoint, token, isPrivate: true, title: "x", attempts: 2, backoff: 1 },
            }),
        ]
      ) {
        const error = await attempt().then(() => undefined, (error) => error);
        assert.ok(error instanceof UserError && error.hint !== undefined, `${i}: ${error}`);
        assertClean(error.message.toLowerCase().replaceAll(SECRET.toLowerCase(), SECRET), `echo ${i}`);
      }
    }
  }));
