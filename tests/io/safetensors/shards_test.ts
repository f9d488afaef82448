import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { openShards } from "../../../lib/io/safetensors/shards.ts";
import { pipelineFor } from "../../reference.ts";
import { withFolder } from "../faulty_operations.ts";
import { writeSimple } from "./fixture.ts";

const first = "m-00001-of-00002.safetensors", second = "m-00002-of-00002.safetensors";

function writeIndex(folder: string, weightMap: Record<string, unknown>): void {
  const index = { metadata: { total_size: 12 }, weight_map: weightMap };
  writeFileSync(join(folder, "m.safetensors.index.json"), JSON.stringify(index));
}

function writeShards(folder: string): void {
  writeSimple(join(folder, first), { a: [1], b: [2] });
  writeSimple(join(folder, second), { c: [3] });
  writeIndex(folder, { a: first, b: first, c: second });
}

Deno.test("openShards: one file", () =>
  withFolder((folder) => {
    writeSimple(join(folder, "m.safetensors"), { a: [1, 2] });
    using source = openShards(folder, "m");
    assert.deepEqual([...source.readF32("a")], [1, 2]);
  }));

Deno.test("openShards: tensors come from the shards that hold them", () =>
  withFolder((folder) => {
    writeShards(folder);
    using source = openShards(folder, "m");
    assert.deepEqual([...source.tensors.keys()], ["a", "b", "c"]);
    assert.deepEqual(["a", "b", "c"].map((name) => source.readF32(name)[0]), [1, 2, 3]);
    assert.deepEqual([...source.readBytes("c", 2, 4)], [0x40, 0x40]);
    const target = new Uint8Array(2);
    source.readInto("c", target, 2);
    assert.deepEqual([...target], [0x40, 0x40]);
    assert.throws(() => source.readF32("d"), /no tensor "d"/);
  }));

Deno.test("openShards: every contradiction is named", () =>
  withFolder((folder) => {
    const cases: [string, () => void, RegExp][] = [
      ["missing shard", () => rmSync(join(folder, second)), /"m-00002-of-00002.safetensors" is missing/],
      [
        "stale duplicate",
        () => writeSimple(join(folder, second), { c: [3], a: [9] }),
        /"a" is in "m-00002-of-00002.safetensors" as well as in "m-00001-of-00002.safetensors"/,
      ],
      [
        "stale single file",
        () => writeSimple(join(folder, "m.safetensors"), { a: [1] }),
        /holds both m.safetensors and m.safetensors.index.json/,
      ],
      ["path out of the folder", () => writeIndex(folder, { a: "../x.safetensors" }), /not the plain name/],
      ["absolute path", () => writeIndex(folder, { a: "/x.safetensors" }), /not the plain name/],
      ["backslashes", () => writeIndex(folder, { a: "..\\x.safetensors" }), /not the plain name/],
      ["another kind of file", () => writeIndex(folder, { a: "m.bin" }), /not the plain name/],
      ["shard that is a number", () => writeIndex(folder, { a: 1 }), /shard of "a", a string/],
      ["index without map", () => writeFileSync(join(folder, "m.safetensors.index.json"), "{}"), /no weight_map/],
      ["index that is cut", () => writeFileSync(join(folder, "m.safetensors.index.json"), "{"), /a string/],
      [
        "duplicate key in the index",
        () =>
          writeFileSync(join(folder, "m.safetensors.index.json"), `{"weight_map":{"a":"${first}","a":"${second}"}}`),
        /duplicate key "a"/,
      ],
      ["damaged shard", () => writeFileSync(join(folder, second), "{}"), /it has 2 bytes/],
    ];
    for (const [title, spoil, expected] of cases) {
      rmSync(join(folder, "m.safetensors"), { force: true });
      writeShards(folder);
      spoil();
      assert.throws(() => openShards(folder, "m"), (error) => {
        assert.ok(error instanceof UserError, `${title}: ${error}`);
        assert.match(error.message, expected, title);
        assert.ok(error.message.includes(folder), title);
        return true;
      });
    }
  }));

Deno.test("openShards: what an index says too much, too little or wrongly does not hide what is stored", () =>
  withFolder((folder) => {
    const indices: [Record<string, string>, string[]][] = [
      [{ a: first, b: first, c: second, d: second }, ["d"]],
      [{ a: second, b: first, c: second }, []],
      [{ a: first, c: second }, []],
    ];
    for (const [index, unstored] of indices) {
      writeShards(folder);
      writeIndex(folder, index);
      using source = openShards(folder, "m");
      assert.deepEqual([...source.tensors.keys()], ["a", "b", "c"]);
      assert.deepEqual(["a", "b", "c"].map((name) => source.readF32(name)[0]), [1, 2, 3]);
      assert.deepEqual(source.unstored, unstored);
    }
  }));

Deno.test("openShards: an empty or missing folder says what it holds", () =>
  withFolder((folder) => {
    assert.throws(
      () => openShards(folder, "m"),
      /neither m.safetensors nor m.safetensors.index.json, nor a variant of them; it is empty/,
    );
    assert.throws(() => openShards(join(folder, "none"), "m"), /the folder does not exist/);
    writeFileSync(join(folder, "m.bin"), "");
    assert.throws(() => openShards(folder, "m"), /PyTorch pickles only \(m.bin\)[^]*torch.load\(f[^]*"m.safetensors"/);
  }));

Deno.test("openShards: the sharded golden transformer holds what its index lists", () => {
  const path = join(pipelineFor("5b"), "transformer");
  const base = "diffusion_pytorch_model";
  const index = JSON.parse(readFileSync(join(path, `${base}.safetensors.index.json`), "utf8"));
  using source = openShards(path, base);
  assert.deepEqual([...source.tensors.keys()].sort(), Object.keys(index.weight_map).sort());
  const bytes = [...source.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  assert.equal(bytes, index.metadata.total_size);
});
