import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../../lib/errors.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import type { TensorToWrite } from "../../../lib/io/safetensors/writer.ts";
import { referenceFolder } from "../../reference.ts";
import { faultyOperations, withFolder } from "../faulty_operations.ts";
import { fileBytes } from "./fixture.ts";

const floats = (name: string, ...values: number[]): TensorToWrite => ({
  name,
  dtype: "F32",
  shape: [values.length],
  data: Float32Array.from(values),
});

Deno.test("writeSafetensors: the bytes of a small file, derived by hand", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const size = await writeSafetensors(path, [
      { name: "u", dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) },
      floats("b", 1),
      { name: "long", dtype: "I64", shape: [], data: BigInt64Array.of(-1n) },
      floats("a", 2, 3),
    ], { metadata: { format: "pt" } });
    const header = '{"__metadata__":{"format":"pt"},' +
      '"long":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
      '"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},' +
      '"b":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},' +
      '"u":{"dtype":"U8","shape":[3],"data_offsets":[20,23]}}';
    const data = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 63, 1, 2, 3];
    const expected = fileBytes(header.padEnd(Math.ceil(header.length / 8) * 8), Uint8Array.from(data));
    assert.deepEqual(new Uint8Array(readFileSync(path)), expected);
    assert.equal(size, expected.length);
  }));

Deno.test("writeSafetensors: names sort by code point, as UTF-8 bytes do", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const names = ["b", "a", "ab", "", "\u{1f600}", "\uff5e", "\u{1f601}", "é", "\u{1f600}a"];
    await writeSafetensors(path, names.map((name) => floats(name, 0)));
    const sorted = names.toSorted((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
    using file = openSafetensors(path);
    assert.deepEqual([...file.tensors.keys()], sorted);
  }));

Deno.test("writeSafetensors: streamed pieces, sync and async, big and small", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const big = new Uint8Array(40_000_001);
    for (let i = 0; i < big.length; i += 4093) big[i] = i;
    await writeSafetensors(path, [
      { name: "big", dtype: "U8", shape: [big.length], data: big },
      {
        name: "sync",
        dtype: "F32",
        shape: [2, 2],
        data: function* () {
          yield Float32Array.of(1);
          yield new Uint8Array(0);
          yield Float32Array.of(0, 2, 3, 4).subarray(1);
        },
      },
      {
        name: "async",
        dtype: "F16",
        shape: [0],
        data: async function* () {
          await Promise.resolve();
          yield new Uint8Array(0);
        },
      },
    ]);
    using file = openSafetensors(path);
    assert.deepEqual([...file.readF32("sync")], [1, 2, 3, 4]);
    assert.equal(Buffer.compare(file.readBytes("big"), big), 0);
  }));

Deno.test("writeSafetensors: refuses what does not fit together and keeps the earlier file", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    writeFileSync(path, "earlier");
    const wrong: [TensorToWrite[], RegExp][] = [
      [[floats("a", 1), floats("b", 1), floats("a", 1)], /two tensors named "a"/],
      [[floats("a", 1), { ...floats("a", 1), dtype: "I32" }], /two tensors named "a"/],
      [[floats("__metadata__", 1)], /reserves it/],
      [[floats("\ud800", 1)], /surrogate/],
      [[{ ...floats("a", 1), shape: [2] }], /needs 8 bytes, its data has 4/],
      [[{ ...floats("a", 1), shape: [-1] }], /has no size/],
      [[{ ...floats("a", 1), shape: [0.5] }], /has no size/],
      [[{ ...floats("a", 1), dtype: "F4", shape: [3] }], /has no size/],
      [[{ ...floats("a", 1), data: () => [new Uint8Array(3)] }], /needs 4 bytes, it gave 3/],
      [[{ ...floats("a", 1), data: () => [new Uint8Array(5)] }], /needs 4 bytes, it gave 5/],
    ];
    for (const [tensors, expected] of wrong) {
      await assert.rejects(writeSafetensors(path, tensors), expected);
      assert.equal(readFileSync(path, "utf8"), "earlier");
      assert.deepEqual(readdirSync(folder), ["a.safetensors"]);
    }
  }));

for (const kind of ["ENOSPC", "KILL"]) {
  Deno.test(`writeSafetensors: ${kind} at every operation leaves the earlier file or the whole one`, () =>
    withFolder(async (folder) => {
      const path = join(folder, "a.safetensors");
      for (let at = 1;; at++) {
        writeFileSync(path, "earlier");
        const operations = faultyOperations({ at, kind });
        const failure = await writeSafetensors(path, [floats("a", 1), floats("b", 2)], { operations })
          .then(() => undefined, (error) => error);
        if (failure === undefined) break;
        if (kind === "ENOSPC") {
          assert.ok(failure instanceof UserError);
          // Length field 8, header of 107 padded to 112, data 8.
          assert.match(failure.message, /disk is full; 128 bytes are wanted/);
          assert.deepEqual(readdirSync(folder), ["a.safetensors"]);
        }
        const text = readFileSync(path, "utf8");
        if (text !== "earlier") openSafetensors(path)[Symbol.dispose]();
      }
    }));
}

Deno.test("writeSafetensors: a tensor larger than the disk is refused before the file is created", () =>
  withFolder(async (folder) => {
    const path = join(folder, "a.safetensors");
    const huge: TensorToWrite = { name: "huge", dtype: "F32", shape: [2 ** 24, 2 ** 24], data: () => [] };
    await assert.rejects(writeSafetensors(path, [huge]), /Not enough disk space.*1125899906842\d+ bytes are wanted/s);
    assert.deepEqual(readdirSync(folder), []);
  }));

Deno.test("writeSafetensors: writes files of the reference library again, byte for byte", async () => {
  const names = readdirSync(referenceFolder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".safetensors"))
    // The reference library writes several metadata entries in random order.
    .filter((name) => !name.includes("-meta"));
  await withFolder(async (scratch) => {
    for (const name of names) {
      const path = join(referenceFolder, name), copy = join(scratch, "copy.safetensors");
      using file = openSafetensors(path);
      const tensors = [...file.tensors].reverse()
        .map(([name, { dtype, shape }]) => ({ name, dtype, shape, data: () => [file.readBytes(name)] }));
      await writeSafetensors(copy, tensors, { metadata: Object.fromEntries(file.metadata) });
      assert.equal(Buffer.compare(readFileSync(copy), readFileSync(path)), 0, name);
    }
  });
  assert.ok(names.length > 50, `${names.length} files`);
});
