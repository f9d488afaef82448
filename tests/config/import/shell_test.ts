/** How the flags of scripts are read, against what a shell would pass on. */
import assert from "node:assert/strict";
import { readProgramCall } from "../../../lib/config/import/shell.ts";

/** Scripts whose last command is `show.py` with flags. */
const SCRIPTS: Readonly<Record<string, string>> = {
  "quotes and blanks": `show.py --a 'x  y' --b "z 'w'" --c=p\\ q --d "" --e ''`,
  "continued lines": "show.py --a 1 \\\n  --b 2 \\\n\n echo done",
  "comments": "# show.py --no 1\nshow.py --a x#y --b 2 # --c 3\n",
  "variables":
    `A=1\nexport B="two words"\nC='$A'\nshow.py --a $A --b $B --c "$B" --d "$C" --e \${A}x --f \${NONE:-dflt}`,
  "arrays": `M=( --a 1 # one\n  --b "x y"\n)\nM+=(--c 3)\nshow.py "\${M[@]}" --d "\${M[*]}"`,
  "words of a variable": `F="--a 1 --b 2"\nshow.py $F --c "$F"`,
  "several commands": "cd /tmp; export X=1 && show.py --a $X; true",
  "escapes in quotes": `show.py --a "q\\"q" --b "\\$HOME" --c "a\\nb"`,
  "eval": `cmd="show.py --a 1 \\\n --b two"\neval $cmd`,
};

/** A function: a file would be "busy" for bash while a program that another test starts holds a copy of it open. */
const showsWords = `show.py() { for word in "$@"; do printf '%s\\0' "$word"; done; }`;

Deno.test("flags are those that bash passes to the program", async () => {
  for (const [name, script] of Object.entries(SCRIPTS)) {
    const { stdout } = await new Deno.Command("bash", { args: ["-c", `${showsWords}\n${script}`], stderr: "null" })
      .output();
    const words = new TextDecoder().decode(stdout).split("\0").slice(0, -1);
    const passed = new Map<string, string[]>();
    let values: string[] = [];
    for (const word of words) {
      const flag = /^--(\w+)(?:=([^]*))?$/.exec(word);
      if (flag === null) values.push(word);
      else passed.set(flag[1]!, values = flag[2] === undefined ? [] : [flag[2]]);
    }
    assert.ok(passed.size > 0, name);
    assert.deepEqual(readProgramCall(script)!.flags, passed, name);
  }
});

Deno.test("the launcher's flags are kept apart, and dashes are underscores", () => {
  const call = readProgramCall("torchrun --nproc-per-node=2 --standalone train.py --learning-rate 1e-4 --offset -1")!;
  assert.equal(call.program, "train.py");
  assert.deepEqual([...call.launcher], [["nproc_per_node", ["2"]], ["standalone", []]]);
  assert.deepEqual([...call.flags], [["learning_rate", ["1e-4"]], ["offset", ["-1"]]]);
});

Deno.test("any text comes to an end", () => {
  const pieces = [..."'\"\\$(){}[]#=;&|\n\t\f\u00a0 ", "--a", "x.py", "A=(", "eval ", "${A[@]}", "A+=", "$A"];
  let state = 12345;
  const next = (count: number) => (state = (state * 1103515245 + 12345) % 2147483648) % count;
  for (let i = 0; i < 3000; i++) {
    readProgramCall(Array.from({ length: next(40) }, () => pieces[next(pieces.length)]).join(""));
  }
});
