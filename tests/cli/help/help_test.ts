/** `--help` of every command: how it is called, two examples that parse, its own flags and keys alone. */
import assert from "node:assert/strict";
import { SAMPLE_GROUPS, sampleFlags } from "../../../lib/cli/commands/sample_flags.ts";
import { EXAMPLES } from "../../../lib/cli/help/examples.ts";
import { commandsOf, problemsOf } from "../../docs/command_lines.ts";
import { cli } from "../fakes.ts";

Deno.test("every command shows how it is called and two examples, which parse", async () => {
  for (const [name, examples] of Object.entries(EXAMPLES)) {
    const { code, out } = await cli([...name.split(" "), "--help"]);
    assert.equal(code, 0, name);
    assert.match(out, new RegExp(`^USAGE\\n  deno run -A mod\\.ts ${name} `), name);
    for (const words of examples) {
      assert.ok(out.includes(`\n  deno run -A mod.ts ${words}\n`), `${name}: ${words}`);
      assert.ok(words.startsWith(name), words);
      assert.deepEqual(await problemsOf(commandsOf(words)[0]!), [], words);
    }
    assert.equal(
      out.includes("--json "),
      ["train", "plan", "doctor", "data check", "lora inspect"].includes(name),
      name,
    );
    assert.match(out, /^ {2}--quiet /m, name);
  }
});

Deno.test("a command lists the keys that mean something to it", async () => {
  const listed = async (...words: string[]) => (await cli([...words, "--help"])).out;
  const [train, plan, check] = [await listed("train"), await listed("plan"), await listed("data", "check")];
  for (const key of ["rank", "data_root", "learning_rate", "output_dir"]) {
    assert.match(train, new RegExp(`^  --${key} `, "m"));
  }
  assert.match(plan, /^ {2}--rank /m);
  assert.match(plan, /^ {2}--fit 12GiB /m);
  assert.doesNotMatch(plan, /^ {2}--(learning_rate|output_dir|id_token) /m);
  assert.match(check, /^ {2}--fps /m);
  assert.doesNotMatch(check, /^ {2}--(rank|learning_rate|gpus) /m);
});

Deno.test("sample shows each of its flags in one group", async () => {
  const names = Object.values(SAMPLE_GROUPS).flat();
  assert.deepEqual([...names].sort(), Object.keys(sampleFlags).sort());
  const { out } = await cli(["sample", "--help"]);
  for (const name of names) assert.equal(out.match(new RegExp(`^  --${name}\\b`, "gm"))?.length, 1, name);
});
