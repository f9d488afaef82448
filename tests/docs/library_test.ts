/** docs/library.md: the way to use this program from another project works, types included. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { fromFileUrl } from "../paths.ts";
import { inScratch } from "../train/runs.ts";

const root = resolve(fromFileUrl("../..", import.meta.url));
const document = readFileSync(join(root, "docs/library.md"), "utf8");
const block = (language: string) => new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "m").exec(document)![1]!;

Deno.test("another project links the folder, gets its types, and runs it", () =>
  inScratch(async (folder) => {
    const config = JSON.parse(block("json"));
    assert.deepEqual(config.links, ["../cogtune"]);
    writeFileSync(join(folder, "deno.json"), JSON.stringify({ ...config, links: [relative(folder, root)] }));
    // What the document shows must have its types; training is a matter of other tests.
    writeFileSync(join(folder, "shown.ts"), block("ts"));
    const program = `import { forecast, parseConfig } from "@cogtune/cogtune";
const { peakBytes } = forecast(parseConfig("preset: 2b-lora"));
// @ts-expect-error a number has no letters
peakBytes.length;
console.log(peakBytes);
`;
    writeFileSync(join(folder, "main.ts"), program);
    const run = async (...args: string[]) => {
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd: folder }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      return new TextDecoder().decode(stdout);
    };
    await run("check", "--quiet", "main.ts", "shown.ts");
    const bytes = Number(await run("run", "-A", "--quiet", "main.ts"));
    // 7.0 GiB, as docs/memory.md has it.
    assert.equal((bytes / 2 ** 30).toFixed(1), "7.0");
  }));
