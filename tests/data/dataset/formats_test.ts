/** Every layout that people bring is recognised by what it holds; what cannot be read says how to mend it. */
import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { collectDataset, readDataset } from "../../../lib/data/dataset/dataset.ts";
import type { DatasetOptions } from "../../../lib/data/dataset/format.ts";
import { FORMATS } from "../../../lib/data/dataset/formats.ts";
import { withFolder } from "../media.ts";
import { layOut, LAYOUTS } from "./layouts.ts";

async function write(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(folder, name)), { recursive: true });
    await Deno.writeTextFile(join(folder, name), content);
  }
}

for (const layout of LAYOUTS) {
  const { of, open = "", options, format, samples } = layout;
  Deno.test(`readDataset() reads: ${of}`, () =>
    withFolder(async (folder) => {
      await layOut(layout, folder, (letter) => letter);
      const dataset = await readDataset(join(folder, open), { images: true, ...options });
      assert.equal(dataset.format, format);
      const found = dataset.items.map(({ prompt, videoPath, imagePath }) => [
        prompt,
        relative(dataset.root, videoPath),
        ...(imagePath === undefined ? [] : [relative(dataset.root, imagePath)]),
      ]);
      assert.deepEqual(found, samples);
      assert.deepEqual(dataset.items.map(({ index }) => index), samples.map((_, i) => i));
    }));
}

Deno.test("every format is among the layouts, and shows and names itself", () => {
  assert.deepEqual([...new Set(LAYOUTS.map(({ format }) => format))].sort(), FORMATS.map(({ name }) => name).sort());
  for (const { title, example } of FORMATS) assert.ok(title.length > 0 && example.includes("\n"));
});

/** Files, what is asked, and what the only problem says. */
const REFUSALS: Readonly<Record<string, readonly [Readonly<Record<string, string>>, DatasetOptions, RegExp]>> = {
  "clips without captions": [
    { "a.mp4": "a", "b.mp4": "b" },
    {},
    /^2 clips have no caption, as a\.mp4; put a \.txt file .* --prompt "\.\.\." or --id_token "\.\.\."$/,
  ],
  "one caption that is missing": [
    { "a.mp4": "a", "a.txt": "x", "b.mp4": "b" },
    {},
    /^b\.mp4: has no caption; put a \.txt file/,
  ],
  "a table without a column of clips": [
    { "m.csv": "name,caption\na.mp4,x\n", "a.mp4": "a" },
    { format: "table" },
    /holds no CSV, JSON or JSON Lines file with a column of clips/,
  ],
  "two tables": [
    { "a.csv": "video,caption\na.mp4,x\n", "b.json": '[{"video": "a.mp4", "caption": "x"}]', "a.mp4": "a" },
    {},
    /holds several tables \(a\.csv, b\.json\); name one: --data_root .*a\.csv$/,
  ],
  "a row of another length": [
    { "m.csv": "video,caption\na.mp4,x\na.mp4,y,z\n", "a.mp4": "a" },
    {},
    /^m\.csv: Invalid Record Length: .* on line 3/,
  ],
  "JSON with a mistake": [
    { "m.json": '[{"video": "a.mp4", "caption": "x",}]', "a.mp4": "a" },
    {},
    /^m\.json: is not JSON/,
  ],
  "a caption that is a number": [
    { "m.json": '[{"video": "a.mp4", "caption": 7}]', "a.mp4": "a" },
    { prompt: "p" },
    /^m\.json entry 1: "caption" is not text$/,
  ],
  "a list of datasets that names itself": [
    { "d.yaml": "- path: .\n" },
    {},
    /^\.: .*: holds 1 \.yaml but neither clips nor a list or table of clips/,
  ],
  "a list of datasets that leads out": [
    { "d.yaml": "- path: /etc\n" },
    {},
    /^d\.yaml entry 1: "\/etc" leads out of the dataset folder; allow it with --allow_outside true$/,
  ],
  "repeats that are no number": [
    { "d.yaml": "- path: a\n  repeats: many\n", "a/a.mp4": "a" },
    {},
    /^d\.yaml entry 1: its repeats are many, expected a whole number/,
  ],
  "a weight of nothing": [
    { "d.yaml": "- path: a\n  weight: 0\n", "a/a.mp4": "a", "a/a.txt": "x" },
    {},
    /^d\.yaml entry 1: its weight is 0, expected a number above 0$/,
  ],
  "a weight for one dataset alone": [
    { "d.yaml": "- path: a\n  weight: 2\n- path: b\n", "a/a.mp4": "a", "a/a.txt": "x", "b/b.mp4": "b", "b/b.txt": "x" },
    {},
    /^d\.yaml entry 2: has no weight, as others have; give all of them one, or none$/,
  ],
  "an alias, of which YAML bombs are made": [
    { "d.yaml": "- path: &a [x]\n- path: *a\n" },
    {},
    /^d\.yaml: cannot be read \(Alias resolution is disabled\)/,
  ],
  "weights so far apart that an epoch has no end": [
    {
      "d.yaml": "- path: a\n  weight: 1\n- path: b\n  weight: 1e-9\n",
      ...{ "a/a.mp4": "a", "a/a.txt": "x", "b/b.mp4": "b", "b/b.txt": "x" },
    },
    {},
    /^d\.yaml: its repeats and weights make an epoch of 1000000000 samples, expected at most 10000000;/,
  ],
  "a prompt of a collection with a NUL": [
    { "d.yaml": '- path: a\n  prompt: "x\\0y"\n', "a/a.mp4": "a" },
    {},
    /^d\.yaml entry 1: its prompt contains a NUL character$/,
  ],
  "a weight and repeats": [
    { "d.yaml": "- path: a\n  weight: 1\n  repeats: 2\n", "a/a.mp4": "a", "a/a.txt": "x" },
    {},
    /^d\.yaml entry 1: has repeats and a weight/,
  ],
  "an entry that is a word": [
    { "d.yaml": "- path: a\n- b\n", "a/a.mp4": "a", "a/a.txt": "x" },
    {},
    /^d\.yaml entry 2: is not a mapping of keys$/,
  ],
  "an entry without a folder": [
    { "d.toml": "[[directory]]\nnum_repeats = 2\n" },
    {},
    /^d\.toml entry 1: names no folder or table of clips$/,
  ],
  "a dataset that is not there": [
    { "d.yaml": "- path: a\n" },
    {},
    /^d\.yaml entry 1: "a" does not exist$/,
  ],
  "a collection that is none": [
    { "d.json": '{"x": {"datasets": [1]}}' },
    { format: "collection" },
    /^d\.json: holds no list of datasets$/,
  ],
  "a folder without a collection": [
    { "a.mp4": "a", "a.txt": "x" },
    { format: "collection" },
    /^\/.*: holds no list of datasets$/,
  ],
  "captions in a parquet table": [
    { "m.json": '[{"instance_data_dir": "x", "caption_strategy": "parquet"}]' },
    {},
    /^m\.json entry 1: has caption_strategy "parquet": write the captions into \.txt files/,
  ],
  "a list with a number in it": [
    { "m.json": '[{"video": "a.mp4", "caption": "x"}, 5]', "a.mp4": "a" },
    {},
    /^m\.json entry 2: is not a JSON object$/,
  ],
  "a line of JSON that is a list": [
    { "m.jsonl": '{"video": "a.mp4", "caption": "x"}\n[1]\n', "a.mp4": "a" },
    {},
    /^m\.jsonl line 2: is not a JSON object$/,
  ],
  "a line of JSON that is cut": [
    { "m.jsonl": '{"video": "a.mp4", "caption": "x"}\n{"video": "a.mp4", "capt\n', "a.mp4": "a" },
    {},
    /^m\.jsonl line 2: is not JSON \(.*\)$/,
  ],
  "a table of a header alone": [{ "m.csv": "video,caption\n", "a.mp4": "a" }, {}, /^m\.csv: holds no entries$/],
  "a quote that is not closed": [
    { "m.csv": 'video,caption\na.mp4,"x\n', "a.mp4": "a" },
    {},
    /^m\.csv: .*[Qq]uote/,
  ],
  "a caption with a NUL": [
    { "m.json": '[{"video": "a.mp4", "caption": "x\\u0000y"}]', "a.mp4": "a" },
    {},
    /^m\.json entry 1: "caption" contains a NUL character$/,
  ],
  "a caption file with a NUL": [
    { "a.mp4": "a", "a.txt": "x\0y" },
    {},
    /^a\.txt: contains a NUL character; remove it$/,
  ],
  "a bucket of SimpleTuner": [
    { "m.json": '[{"type": "aws", "instance_data_dir": "x"}]' },
    {},
    /^m\.json entry 1: is of type "aws": only local folders are read$/,
  ],
};

for (const [name, [files, options, says]] of Object.entries(REFUSALS)) {
  Deno.test(`readDataset() refuses ${name}`, () =>
    withFolder(async (folder) => {
      await write(folder, files);
      const { problems } = await collectDataset(folder, options);
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.match(problems[0]!, says);
    }));
}

Deno.test("clips without captions take one prompt, or the identifier token alone", () =>
  withFolder(async (folder) => {
    await write(folder, { "a.mp4": "a", "b.mp4": "b", "b.txt": "own" });
    const prompts = async (options: DatasetOptions) =>
      (await readDataset(folder, options)).items.map(({ prompt }) => prompt);
    assert.deepEqual(await prompts({ prompt: "shared" }), ["shared", "own"]);
    assert.deepEqual(await prompts({ idToken: "ohwx " }), ["ohwx ", "ohwx own"]);
    assert.deepEqual(await prompts({ idToken: "ohwx ", prompt: "shared" }), ["ohwx shared", "ohwx own"]);
  }));

Deno.test("pictures count as clips where one frame is trained, and are left out beside longer clips", () =>
  withFolder(async (folder) => {
    await write(folder, { "a.mp4": "a", "b.png": "b", "c.jpg": "c" });
    const read = async (frames: number) => {
      const { items, warnings } = await readDataset(folder, { prompt: "p", frames });
      return [items.map(({ name }) => name), warnings.length];
    };
    assert.deepEqual(await read(1), [["a.mp4", "b.png", "c.jpg"], 0]);
    assert.deepEqual(await read(49), [["a.mp4"], 1]);
  }));

Deno.test("a format can be forced, and a doubt about it is a warning", () =>
  withFolder(async (folder) => {
    await write(folder, {
      "prompts.txt": "from the list\n",
      "videos.txt": "a.mp4\n",
      "m.csv": "video,caption\na.mp4,from the table\n",
      "a.mp4": "a",
      "a.txt": "from beside",
    });
    const read = async (options: DatasetOptions) => {
      const { items, warnings } = await readDataset(folder, options);
      return [items[0]!.prompt, ...warnings];
    };
    assert.deepEqual(await read({}), [
      "from the list",
      "read as lists (prompts.txt and videos.txt); it could also be table (m.csv): --dataset_format chooses",
    ]);
    assert.deepEqual(await read({ format: "table" }), ["from the table"]);
    assert.deepEqual(await read({ format: "captions" }), ["from beside"]);
  }));

Deno.test("columns can be named, and names of objects are no columns", () =>
  withFolder(async (folder) => {
    await write(folder, { "m.csv": "v,c,caption\na.mp4,mine,other\n", "a.mp4": "a" });
    const { items } = await readDataset(folder, { videoColumn: "v", captionColumn: "c" });
    assert.deepEqual(items.map(({ prompt }) => prompt), ["mine"]);
    await write(folder, {
      "m.csv": "x\n",
      "j.json": '[{"video": "a.mp4", "caption": "x", "__proto__": {"text": "y"}}]',
    });
    assert.deepEqual((await readDataset(folder)).items.map(({ prompt }) => prompt), ["x"]);
    const { problems } = await collectDataset(folder, { captionColumn: "constructor", prompt: "p" });
    assert.deepEqual(problems, []);
  }));

Deno.test("absolute paths are read inside the folder, and outside of it when that is allowed", () =>
  withFolder(async (folder) => {
    const inside = join(folder, "data");
    await write(folder, { "out.mp4": "o", "data/in.mp4": "i" });
    const table = (path: string) => write(inside, { "m.jsonl": JSON.stringify({ video: path, caption: "x" }) });
    await table(join(inside, "in.mp4"));
    assert.deepEqual((await readDataset(inside)).items.map(({ name }) => name), ["in.mp4"]);
    for (const path of [join(folder, "out.mp4"), "../out.mp4"]) {
      await table(path);
      assert.match(
        (await collectDataset(inside)).problems.join(),
        /leads out of the dataset folder; allow it with --allow_outside true$/,
      );
      const { items } = await readDataset(inside, { allowOutside: true });
      assert.deepEqual(items.map(({ name }) => name), [join(folder, "out.mp4")]);
    }
  }));

Deno.test("weights are shares of an epoch in which every clip comes", () =>
  withFolder(async (folder) => {
    const counts = { cats: 5, dogs: 3, birds: 1 };
    for (const [name, count] of Object.entries(counts)) {
      for (let i = 0; i < count; i++) await write(folder, { [`${name}/${i}.mp4`]: "x", [`${name}/${i}.txt`]: name });
    }
    const shares = async (weights: Readonly<Record<string, number>>) => {
      const list = Object.entries(weights).map(([path, weight]) => `- path: ${path}\n  weight: ${weight}\n`);
      await write(folder, { "d.yaml": list.join("") });
      const { items } = await readDataset(folder);
      const times = Map.groupBy(items, ({ name }) => name);
      const perClip = [...times.values()].map(({ length }) => length);
      assert.equal(
        times.size,
        Object.keys(weights).reduce((sum, name) => sum + counts[name as keyof typeof counts], 0),
      );
      return { total: items.length, perClip, of: Map.groupBy(items, ({ prompt }) => prompt) };
    };
    // The five cats come once as a half, so the epoch has ten: three dogs make three, one bird two.
    const mixed = await shares({ cats: 0.5, dogs: 0.3, birds: 0.2 });
    assert.deepEqual([mixed.total, ...[...mixed.of.values()].map(({ length }) => length)], [10, 5, 3, 2]);
    // Dogs weigh three times as much: three of them for one cat, so 15 for the five, each five times.
    const heavy = await shares({ cats: 1, dogs: 3 });
    assert.deepEqual([heavy.total, ...heavy.perClip], [20, 1, 1, 1, 1, 1, 5, 5, 5]);
    // Twelve and a half of three dogs: twelve, each four times.
    assert.deepEqual((await shares({ cats: 2, dogs: 5 })).perClip, [1, 1, 1, 1, 1, 4, 4, 4]);
    assert.deepEqual((await shares({ cats: 3, dogs: 5 })).perClip, [1, 1, 1, 1, 1, 2, 3, 3]);
  }));
