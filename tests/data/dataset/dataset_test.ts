import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { UserErrors } from "../../../lib/errors.ts";
import { readDataset } from "../../../lib/data/dataset/dataset.ts";
import type { DatasetOptions } from "../../../lib/data/dataset/format.ts";
import { readTextList } from "../../../lib/data/dataset/text_list.ts";
import { clipsFolder, referencePath } from "../../reference.ts";
import { fromFileUrl } from "../../paths.ts";
import { withFolder } from "../media.ts";

/** Writes files by their relative names; listing needs only their existence, so clips are a few bytes. */
async function write(folder: string, files: Record<string, string | Uint8Array>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(folder, name)), { recursive: true });
    if (typeof content === "string") await Deno.writeTextFile(join(folder, name), content);
    else await Deno.writeFile(join(folder, name), content);
  }
}

async function problemsOf(folder: string, options?: DatasetOptions): Promise<readonly string[]> {
  const error = await readDataset(folder, options).then(() => assert.fail("expected problems"), (error) => error);
  assert.ok(error instanceof UserErrors, `${error}`);
  return error.problems;
}

/** Runs `body` with two good samples and then these files over them. */
function withDataset(
  files: Record<string, string | Uint8Array>,
  body: (folder: string) => Promise<void>,
): Promise<void> {
  return withFolder(async (folder) => {
    await write(folder, { "prompts.txt": "one\ntwo\n", "videos.txt": "videos/a.mp4\nvideos/b.mp4\n" });
    await write(folder, { "videos/a.mp4": "a", "videos/b.mp4": "b", ...files });
    await body(folder);
  });
}

Deno.test("readDataset() reads the example clips of this repository", async () => {
  const { items, format, warnings } = await readDataset(fromFileUrl("../../../examples/clips", import.meta.url));
  assert.equal(format, "lists");
  assert.deepEqual(
    items.map((item) => item.name),
    ["ball", "fractal", "cells", "sunset"].map((name) => `videos/${name}.mp4`),
  );
  assert.match(items[0]!.prompt, /red ball/);
  assert.deepEqual(warnings, []);
});

Deno.test("readDataset() reads the original layout with pictures", async () => {
  const { items } = await readDataset(clipsFolder, { images: true });
  assert.ok(items.length > 1);
  for (const item of items) {
    assert.equal(item.imagePath, item.videoPath.replace(/videos/, "images").replace(/mp4$/, "png"));
  }
  assert.ok((await readDataset(clipsFolder)).items.every((item) => item.imagePath === undefined));
});

Deno.test("readTextList() strips lines as the original trainer does, and names blank lines", async () => {
  const { lists } = JSON.parse(await Deno.readTextFile(referencePath("data/names.json"))) as {
    lists: { name: string; text: string; entries: string[] }[];
  };
  await withFolder(async (temporary) => {
    const path = join(temporary, "list.txt");
    for (const { name, text, entries } of lists) {
      await Deno.writeTextFile(path, text);
      const problems: string[] = [];
      const list = await readTextList(path, "list.txt", problems);
      assert.deepEqual(list!.map((entry) => entry.text), entries, name);
      const blank = /(^|\n)[\s\u00a0]*\n[\s\u00a0]*[^\s\u00a0]/.test(text.replaceAll("\r\n", "\n"));
      assert.equal(problems.length > 0, blank || entries.length === 0, `${name}: ${problems}`);
    }
  });
});

Deno.test("readDataset() puts the identifier token in front without a separator", async () => {
  const { id_token } = JSON.parse(await Deno.readTextFile(referencePath("data/names.json")));
  await withDataset({ "prompts.txt": `${id_token.prompt}\ntwo\n` }, async (root) => {
    const { items } = await readDataset(root, { idToken: id_token.token });
    assert.equal(items[0]!.prompt, id_token.used);
  });
});

Deno.test("readDataset() takes a byte order mark, Windows line ends and blank lines at the end", async () => {
  await withDataset(
    { "prompts.txt": "\ufeffone\r\ntwo\r\n\r\n\r\n", "videos.txt": "videos/a.mp4\r\nvideos/b.mp4" },
    async (folder) => {
      const { items } = await readDataset(folder);
      assert.deepEqual(items.map((item) => item.prompt), ["one", "two"]);
      assert.deepEqual(
        items.map((item) => item.videoPath),
        ["a", "b"].map((name) => join(folder, `videos/${name}.mp4`)),
      );
    },
  );
});

Deno.test("readDataset() takes other names for its lists", async () => {
  await withDataset({ "lists/p.txt": "x\n", "lists/v.txt": "../videos/a.mp4\n" }, async (folder) => {
    const { items } = await readDataset(folder, { captionColumn: "lists/p.txt", videoColumn: "lists/v.txt" });
    assert.deepEqual(items.map((item) => [item.prompt, item.videoPath]), [["x", join(folder, "videos/a.mp4")]]);
  });
});

Deno.test("readDataset() never shifts pairs over a blank line", async () => {
  await withDataset({ "prompts.txt": "one\n\ntwo\n" }, async (folder) => {
    const problems = await problemsOf(folder);
    assert.equal(problems.length, 1);
    assert.match(problems[0]!, /^prompts\.txt line 2: is blank/);
  });
});

Deno.test("readDataset() names the first entry without a partner", async () => {
  await withDataset({ "prompts.txt": "one\ntwo\nthree\nfour\n" }, async (folder) => {
    const [problem] = await problemsOf(folder);
    assert.equal(
      problem,
      'prompts.txt has 4 entries and videos.txt has 2: prompts.txt line 3 ("three") has no partner in videos.txt',
    );
  });
  await withDataset({ "prompts.txt": "one\n" }, async (folder) => {
    const [problem] = await problemsOf(folder);
    assert.match(problem!, /prompts\.txt has 1 entry and videos\.txt has 2: videos\.txt line 2 \("videos\/b\.mp4"\)/);
  });
});

Deno.test("readDataset() reports all problems at once", async () => {
  const files = {
    "prompts.txt": new Uint8Array([0x6f, 0x6b, 0x0a, 0x63, 0x61, 0x66, 0xe9, 0x0a]),
    "videos.txt":
      "videos/missing.mp4\n/etc/passwd\n../outside.mp4\n~/x.mp4\nvideos\nvideos/empty.mp4\nC:\\clips\\x.mp4\nvideos/a\0.mp4\n",
    "videos/empty.mp4": "",
  };
  await withDataset(files, async (folder) => {
    const problems = await problemsOf(folder);
    const expected = [
      /^prompts\.txt: line 2 is not UTF-8 \(byte 0xe9 at byte 4 of the line\)/,
      /^videos\.txt line 8: contains a NUL/,
      /^videos\.txt line 1: "videos\/missing\.mp4" does not exist/,
      /^videos\.txt line 2: "\/etc\/passwd" is an absolute path/,
      /^videos\.txt line 3: "\.\.\/outside\.mp4" leads out of the dataset folder; allow it with --allow_outside true/,
      /^videos\.txt line 4: "~\/x\.mp4" begins with "~"/,
      /^videos\.txt line 5: "videos" is a folder/,
      /^videos\.txt line 6: "videos\/empty\.mp4" is empty/,
      /^videos\.txt line 7: .* is an absolute path/,
    ];
    assert.equal(problems.length, expected.length, problems.join("\n"));
    for (const pattern of expected) {
      assert.ok(problems.some((problem) => pattern.test(problem)), `${pattern}\n${problems.join("\n")}`);
    }
  });
});

Deno.test("readDataset() follows symbolic links only inside the folder", async () => {
  await withFolder(async (outside) => {
    await Deno.writeTextFile(join(outside, "secret.mp4"), "x");
    await withDataset({ "videos.txt": "videos/in.mp4\nvideos/out.mp4\n" }, async (folder) => {
      await Deno.symlink(join(folder, "videos/a.mp4"), join(folder, "videos/in.mp4"));
      await Deno.symlink(join(outside, "secret.mp4"), join(folder, "videos/out.mp4"));
      const problems = await problemsOf(folder);
      assert.equal(problems.length, 1);
      assert.match(problems[0]!, /line 2: "videos\/out\.mp4" leads out of the dataset folder through a symbolic link/);
      assert.equal((await readDataset(folder, { allowOutside: true })).items.length, 2);
    });
    await withDataset({ "videos.txt": "videos/a.mp4\nvideos/loop.mp4\n" }, async (folder) => {
      await Deno.symlink(join(folder, "videos/loop.mp4"), join(folder, "videos/loop.mp4"));
      assert.match((await problemsOf(folder))[0]!, /line 2: "videos\/loop\.mp4" cannot be opened/);
    });
  });
});

Deno.test("readDataset() never opens a pipe named like a clip", async () => {
  await withDataset({ "videos.txt": "videos/a.mp4\nvideos/pipe.mp4\n" }, async (folder) => {
    await new Deno.Command("mkfifo", { args: [join(folder, "videos/pipe.mp4")] }).output();
    assert.match((await problemsOf(folder))[0]!, /line 2: "videos\/pipe\.mp4" is not a regular file/);
  });
});

Deno.test("readDataset() warns about a clip listed twice", async () => {
  await withDataset({ "videos.txt": "videos/a.mp4\nvideos/../videos/a.mp4\n" }, async (folder) => {
    const { warnings } = await readDataset(folder);
    assert.deepEqual(warnings, ["videos/a.mp4: sample 2 repeats the clip of sample 1 with another prompt"]);
  });
});

Deno.test("readDataset() uses images.txt where it exists and insists on an image column that was named", async () => {
  const images = { "images.txt": "images/a.png\nimages/b.png\n", "images/a.png": "x", "images/b.png": "y" };
  await withDataset(images, async (folder) => {
    const { items } = await readDataset(folder, { images: true });
    assert.deepEqual(items.map((item) => item.imagePath), ["a", "b"].map((name) => join(folder, `images/${name}.png`)));
    assert.match((await problemsOf(folder, { images: true, imageColumn: "pics.txt" }))[0]!, /^pics\.txt: no such file/);
  });
  await withDataset({ "images.txt": "images/a.png\n" }, async (folder) => {
    const problems = await problemsOf(folder, { images: true });
    assert.match(problems[0]!, /prompts\.txt has 2 entries and images\.txt has 1/);
    assert.match(problems[1]!, /^images\.txt line 1: "images\/a\.png" does not exist/);
  });
  await withDataset({}, async (folder) => {
    assert.ok((await readDataset(folder, { images: true })).items.every((item) => item.imagePath === undefined));
  });
});

Deno.test("readDataset() says what it looked for in a folder that is no dataset", async () => {
  await withFolder(async (folder) => {
    await write(folder, { "a/b.parquet": "x", "readme.md": "x" });
    assert.match(
      (await problemsOf(folder))[0]!,
      /holds 1 folders, 1 \.md but neither clips nor a list or table of clips/,
    );
    assert.match((await problemsOf(join(folder, "nowhere")))[0]!, /no such folder/);
    await write(folder, { "prompts.txt": "\n\n", "videos.txt": "" });
    assert.deepEqual(await problemsOf(folder), ["prompts.txt: holds no entries", "videos.txt: holds no entries"]);
  });
});

Deno.test("readDataset() reads CogKit's text-to-video layout", async () => {
  await withFolder(async (folder) => {
    const row = (file: string, prompt: string) => JSON.stringify({ file_name: file, prompt });
    await write(folder, { "train/metadata.jsonl": `${row("b.mp4", "two")}\n${row("sub/a.mp4", "one")}\n\n` });
    await write(folder, { "train/b.mp4": "b", "train/sub/a.mp4": "a" });
    const { items, format } = await readDataset(folder, { idToken: "zwx," });
    assert.equal(format, "table");
    assert.deepEqual(items.map((item) => [item.prompt, item.videoPath]), [
      ["zwx,two", join(folder, "train/b.mp4")],
      ["zwx,one", join(folder, "train/sub/a.mp4")],
    ]);
    assert.equal((await readDataset(join(folder, "train"))).items.length, 2);
    await write(folder, {
      "train/metadata.jsonl": `{"file_name": "b.mp4"\n[1]\n${row("../../x.mp4", "p")}\n{"prompt": 3}\n`,
    });
    const problems = await problemsOf(folder);
    assert.match(problems[0]!, /^train\/metadata\.jsonl line 1: is not JSON/);
    assert.match(problems[1]!, /line 2: is not a JSON object/);
    assert.match(problems[2]!, /line 4: "file_name" is missing/);
    assert.match(problems[3]!, /line 4: "prompt" is not text/);
    assert.match(problems[4]!, /line 3: "\.\.\/\.\.\/x\.mp4" leads out of the dataset folder/);
  });
});

Deno.test("readDataset() joins CogKit's image-to-video tables by id and not by position", async () => {
  await withFolder(async (folder) => {
    const rows = (...values: unknown[]) => values.map((value) => `${JSON.stringify(value)}\n`).join("");
    await write(folder, {
      "train/metadata.jsonl": rows({ id: 2, prompt: "two" }, { id: 10, prompt: "ten" }, { id: 1, prompt: "one" }),
      "train/videos/metadata.jsonl": rows({ file_name: "x.mp4", id: 10 }, { file_name: "y.mp4", id: 1 }, {
        file_name: "z.mp4",
        id: 2,
      }),
      "train/images/metadata.jsonl": rows({ file_name: "1.png", id: 1 }, { file_name: "2.png", id: 2 }, {
        file_name: "10.png",
        id: 10,
      }),
    });
    for (
      const name of ["videos/x.mp4", "videos/y.mp4", "videos/z.mp4", "images/1.png", "images/2.png", "images/10.png"]
    ) {
      await write(folder, { [`train/${name}`]: "x" });
    }
    const { items } = await readDataset(folder, { images: true });
    assert.deepEqual(items.map((item) => [item.prompt, item.name, item.imagePath!.split("/").at(-1)]), [
      ["one", "train/videos/y.mp4", "1.png"],
      ["two", "train/videos/z.mp4", "2.png"],
      ["ten", "train/videos/x.mp4", "10.png"],
    ]);
    await write(folder, {
      "train/videos/metadata.jsonl": rows({ file_name: "x.mp4", id: 10 }, { file_name: "y.mp4", id: 10 }, {
        file_name: "z.mp4",
        id: 7,
      }),
    });
    const problems = await problemsOf(folder);
    assert.deepEqual([...problems].sort(), [
      "train/metadata.jsonl line 1: id 2 is not in train/videos/metadata.jsonl",
      "train/metadata.jsonl line 3: id 1 is not in train/videos/metadata.jsonl",
      "train/videos/metadata.jsonl line 2: id 10 stands already in train/videos/metadata.jsonl line 1",
      "train/videos/metadata.jsonl line 3: id 7 has no prompt",
    ]);
  });
});
