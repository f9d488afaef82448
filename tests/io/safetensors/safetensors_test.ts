import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../../../lib/errors.ts";
import { openSafetensors } from "../../../lib/io/safetensors/safetensors.ts";
import { referencePath } from "../../reference.ts";
import { withFolder } from "../faulty_operations.ts";
import { entry, fileBytes, writeSimple } from "./fixture.ts";

Deno.test("openSafetensors: names, shapes, dtypes, metadata and bytes of a hand-made file", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    // 3 bytes first, so that the F32 and F64 data lie at odd addresses; the header ends in blanks.
    const header = `{"__metadata__":{"format":"pt","ü":"\\u00e9"},${entry("bytes", 0, 3)},${
      entry("matrix", 3, 27, "F32", "[2,3]")
    },${entry("empty", 27, 27, "F16", "[0,7]")},${entry("scalar", 27, 35, "F64", "[]")}}   `;
    const data = new Uint8Array(35);
    data.set([7, 8, 9]);
    data.set(new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, -6.5).buffer), 3);
    data.set(new Uint8Array(Float64Array.of(0.1).buffer), 27);
    writeFileSync(path, fileBytes(header, data));
    using file = openSafetensors(path);
    assert.deepEqual([...file.metadata], [["format", "pt"], ["ü", "é"]]);
    assert.deepEqual([...file.tensors.keys()], ["bytes", "matrix", "empty", "scalar"]);
    const dataStart = 8 + new TextEncoder().encode(header).length;
    assert.deepEqual(file.tensors.get("matrix"), {
      dtype: "F32",
      shape: [2, 3],
      byteOffset: dataStart + 3,
      byteLength: 24,
    });
    assert.deepEqual([...file.readBytes("bytes", 1, 3)], [8, 9]);
    assert.deepEqual([...file.readF32("matrix")], [1, 2, 3, 4, 5, -6.5]);
    assert.deepEqual([...file.readF32("scalar")], [Math.fround(0.1)]);
    assert.equal(file.readF32("empty").length, 0);
    const target = new Uint8Array(2);
    file.readInto("bytes", target, 0);
    assert.deepEqual([...target], [7, 8]);
    assert.throws(() => file.readBytes("bytes", 1, 4), RangeError);
    assert.throws(() => file.readBytes("bytes", 2, 1), RangeError);
    assert.throws(() => file.readBytes("bytes", -1, 1), RangeError);
    assert.throws(() => file.readF32("bytes"), /dtype U8, expected F32, F16, BF16, F64, F8_E4M3 or F8_E5M2/);
    assert.throws(() => file.readBytes("none"), UserError);
  }));

Deno.test("openSafetensors: every dtype of the format has its size", () =>
  withFolder((folder) => {
    // Sizes in bits of two elements in a row of four, from the format description.
    const bits = {
      ...{ BOOL: 8, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8, F4: 4 },
      ...{ F6_E2M3: 6, F6_E3M2: 6, I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32 },
      ...{ C64: 64, F64: 64, I64: 64, U64: 64 },
    };
    const path = join(folder, "a.safetensors");
    for (const [dtype, size] of Object.entries(bits)) {
      writeFileSync(path, fileBytes(`{${entry("t", 0, size / 2, dtype, "[4]")}}`, size / 2));
      openSafetensors(path)[Symbol.dispose]();
      writeFileSync(path, fileBytes(`{${entry("t", 0, size / 2 + 1, dtype, "[4]")}}`, size / 2 + 1));
      assert.throws(() => openSafetensors(path), new RegExp(`need ${size / 2} bytes`));
    }
  }));

const ok = entry("a", 0, 4);
const empties = (count: number) => Array.from({ length: count }, (_, i) => entry(`t${i}`, 0, 0)).join(",");
const deep = (levels: number) => "[".repeat(levels) + "]".repeat(levels);

/** Attacks: header text, bytes of data, what the message must say. */
const attacks: [string, string | Uint8Array, number, RegExp][] = [
  ["empty header", "", 0, /does not begin with/],
  ["blank before the header", ` {${ok}}`, 4, /does not begin with/],
  ["array at the root", `[${ok}]`, 4, /does not begin with/],
  ["null at the root", "null", 0, /does not begin with/],
  ["byte order mark", `\ufeff{${ok}}`, 4, /does not begin with/],
  ["unfinished JSON", `{${ok}`, 4, /expected "," or "}"/],
  ["text after the object", `{${ok}} x`, 4, /expected the end/],
  ["two objects", `{${ok}}{}`, 4, /expected the end/],
  ["NUL padding", `{${ok}}\0\0`, 4, /expected the end/],
  ["trailing comma", `{${ok},}`, 4, /a string/],
  ["single quotes", `{'a':1}`, 0, /a string/],
  ["bad UTF-8", Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x7d), 0, /not UTF-8/],
  ["control character in a name", `{"a\nb":{}}`, 0, /control character/],
  ["duplicate tensor", `{${ok},${ok}}`, 4, /duplicate key "a"/],
  ["duplicate tensor behind an escape", `{${ok},${ok.replace('"a"', '"\\u0061"')}}`, 4, /duplicate key "a"/],
  ["duplicate tensor of another type", `{${ok},${entry("a", 4, 8, "F32", "[1]")}}`, 8, /duplicate key "a"/],
  ["duplicate among many", `{${empties(30)},${entry("t20", 0, 0)}}`, 0, /duplicate key "t20"/],
  ["duplicate metadata", `{"__metadata__":{},"__metadata__":{},${ok}}`, 4, /duplicate key "__metadata__"/],
  ["duplicate metadata entry", `{"__metadata__":{"x":"1","x":"2"}}`, 0, /duplicate key "x"/],
  ["duplicate field", `{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4, /duplicate key "dtype"/],
  ["metadata that is a number", `{"__metadata__":{"x":1}}`, 0, /entry "x", a string/],
  ["metadata that is a tensor", `{"__metadata__":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0, /a string/],
  ["metadata that is an array", `{"__metadata__":[]}`, 0, /expected "{"/],
  ["tensor that is a string", `{"a":"b"}`, 0, /expected "{"/],
  ["tensor that is null", `{"a":null}`, 0, /expected "{"/],
  ["unknown dtype", `{${entry("a", 0, 4, "F31", "[1]")}}`, 4, /unknown dtype "F31"/],
  ["lower-case dtype", `{${entry("a", 0, 4, "f32", "[1]")}}`, 4, /unknown dtype "f32"/],
  ["dtype from the prototype chain", `{${entry("a", 0, 4, "toString", "[1]")}}`, 4, /unknown dtype/],
  ["missing dtype", `{"a":{"shape":[4],"data_offsets":[0,4]}}`, 4, /has no dtype/],
  ["missing everything", `{"a":{}}`, 0, /has no dtype, no shape, no data_offsets/],
  ["one offset", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[4]}}`, 4, /1 numbers instead of 2/],
  ["three offsets", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}}`, 4, /3 numbers instead of 2/],
  ["offsets in reverse", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}`, 4, /after their end/],
  ["negative offset", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[-4,0]}}`, 4, /an integer from 0 up, found "-4"/],
  ["offsets beyond the file", `{${entry("a", 0, 5)}}`, 4, /ends at byte 5 of the data/],
  ["negative shape", `{${entry("a", 0, 4, "U8", "[-4]")}}`, 4, /an integer from 0 up/],
  ["minus zero", `{${entry("a", 0, 0, "U8", "[-0]")}}`, 0, /an integer from 0 up/],
  ["float shape", `{${entry("a", 0, 4, "U8", "[4.0]")}}`, 4, /an integer from 0 up, found "4.0"/],
  ["exponent shape", `{${entry("a", 0, 4, "U8", "[4e0]")}}`, 4, /an integer from 0 up, found "4e0"/],
  ["leading zero", `{${entry("a", 0, 4, "U8", "[04]")}}`, 4, /an integer from 0 up/],
  ["string shape", `{${entry("a", 0, 4, "U8", '["4"]')}}`, 4, /an integer from 0 up/],
  ["boolean shape", `{${entry("a", 0, 4, "U8", "[true]")}}`, 4, /an integer from 0 up/],
  ["null shape", `{${entry("a", 0, 4, "U8", "null")}}`, 4, /expected "\["/],
  ["number as shape", `{${entry("a", 0, 4, "U8", "4")}}`, 4, /expected "\["/],
  ["nested shape", `{${entry("a", 0, 4, "U8", "[[4]]")}}`, 4, /an integer from 0 up/],
  ["integer above 2^53", `{${entry("a", 0, 4, "U8", "[9007199254740993]")}}`, 4, /above 2\^53/],
  ["integer of 60 digits", `{${entry("a", 0, 4, "U8", `[${"9".repeat(60)}]`)}}`, 4, /above 2\^53/],
  ["integer of 10000 digits", `{${entry("a", 0, 4, "U8", `[${"9".repeat(10000)}]`)}}`, 4, /above 2\^53|expected/],
  ["product of the shape overflows", `{${entry("a", 0, 4, "U8", "[4294967296,4294967297]")}}`, 4, /no representable/],
  ["product wraps to 4 in 64 bits", `{${entry("a", 0, 4, "U8", "[4611686018427388,4000,1]")}}`, 4, /no representable/],
  ["shape and bytes disagree", `{${entry("a", 0, 4, "F32", "[2]")}}`, 4, /need 8 bytes, data_offsets span 4/],
  ["half a byte", `{${entry("a", 0, 2, "F4", "[3]")}}`, 2, /no representable number of bytes/],
  ["same bytes twice", `{${ok},${entry("b", 0, 4)}}`, 4, /"b" begins at byte 0, inside tensor "a"/],
  ["partial overlap", `{${ok},${entry("b", 3, 7)}}`, 7, /"b" begins at byte 3, inside/],
  ["hole at the start", `{${entry("a", 1, 5)}}`, 5, /1 bytes before tensor "a"/],
  ["hole in the middle", `{${ok},${entry("b", 6, 8)}}`, 8, /2 bytes before tensor "b"/],
  ["bytes after the data", `{${ok}}`, 9, /5 bytes after the last tensor/],
  ["data without tensors", `{}`, 4, /4 bytes after the last tensor/],
  ["data cut short", `{${ok}}`, 3, /ends at byte 4 of the data, but the file holds only 3/],
  ["lone surrogate in a name", `{"\\ud800":{}}`, 0, /half of a surrogate pair/],
  ["bad escape in a name", `{"\\x41":{}}`, 0, /bad escape/],
  ["string without an end", `{"abc`, 0, /without an end/],
  ["string that ends in an escape", `{"abc\\`, 0, /without an end/],
  ["nesting in an unknown field", `{"a":{"x":${deep(40)}}}`, 0, /more than 32 levels/],
  ["nesting of 100000 levels", `{"a":{"x":${deep(100_000)}}}`, 0, /more than 32 levels/],
  ["bad number in an unknown field", `{"a":{"x":01}}`, 0, /a JSON value/],
];

Deno.test("openSafetensors: refuses every malformed header, naming the file and the fault", () =>
  withFolder((folder) => {
    const path = join(folder, "evil.safetensors");
    for (const [title, header, data, expected] of attacks) {
      writeFileSync(path, fileBytes(header, data));
      assert.throws(() => openSafetensors(path), (error) => {
        assert.ok(error instanceof UserError, `${title}: ${error}`);
        assert.match(error.message, expected, title);
        assert.ok(error.message.includes("evil.safetensors"), title);
        assert.ok(error.message.length < 2000, `${title}: message of ${error.message.length} characters`);
        return true;
      });
    }
  }));

Deno.test("openSafetensors: refuses wrong header lengths before allocating", () =>
  withFolder((folder) => {
    const path = join(folder, "evil.safetensors");
    for (const length of [0n, 5n, 2n ** 24n + 1n, 100_000_001n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      writeFileSync(path, fileBytes("{}", 0, length));
      assert.throws(() => openSafetensors(path), UserError, String(length));
    }
    for (let size = 0; size < 8; size++) {
      writeFileSync(path, new Uint8Array(size));
      assert.throws(() => openSafetensors(path), new RegExp(`it has ${size} bytes`));
    }
    writeFileSync(path, fileBytes(""));
    truncateSync(path, 200_000_000);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, 150_000_000n, true);
    writeFileSync(path, bytes, { flag: "r+" });
    assert.throws(() => openSafetensors(path), /would have 150000000 bytes, at most 16777216 are read/);
  }));

/** Headers of the greatest length that cost the most to read. */
const BOMBS: Readonly<Record<string, (i: number) => string>> = {
  "a million tensors without a byte": (i) => `"${i.toString(36)}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
  "a million tensors without a field": (i) => `"${i.toString(36)}":{}`,
};

for (const [name, entry] of Object.entries(BOMBS)) {
  Deno.test({
    name: `openSafetensors: decides on a header of ${name} within 5 s (COGTUNE_FULL)`,
    ignore: !Deno.env.has("COGTUNE_FULL"),
    fn: () =>
      withFolder((folder) => {
        const entries: string[] = [];
        for (let i = 0, size = 2; size < 2 ** 24 - 100; i++) size += entries[entries.push(entry(i)) - 1]!.length + 1;
        const path = join(folder, "bomb.safetensors");
        writeFileSync(path, fileBytes(`{${entries.join(",")}}`));
        // Processor time: other programs do not change it, and the least of several is that without other tests.
        const seconds = Array.from({ length: 3 }, () => {
          const start = process.cpuUsage();
          try {
            using file = openSafetensors(path);
            assert.equal(file.tensors.size, entries.length);
          } catch (error) {
            assert.ok(error instanceof UserError && error.message.length < 5000, String(error));
          }
          const { user, system } = process.cpuUsage(start);
          return (user + system) / 1e6;
        });
        assert.ok(Math.min(...seconds) < 5, `${seconds} s`);
      }),
  });
}

Deno.test("openSafetensors: accepts what the format allows", () =>
  withFolder((folder) => {
    const path = join(folder, "odd.safetensors");
    const open = (header: string, data: number) => {
      writeFileSync(path, fileBytes(header, data));
      return openSafetensors(path);
    };
    open("{}", 0)[Symbol.dispose]();
    open(`{"__metadata__":null,${ok}}`, 4)[Symbol.dispose]();
    open(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"note":[1.5e3,{"x":null}]}}`, 4)[Symbol.dispose]();
    // A factor 0 makes a product of 2^106 an empty tensor; tensors need not be in file order.
    const big = `[9007199254740991,9007199254740991,0]`;
    using file = open(`{${entry("b", 4, 6)},${entry("z", 4, 4, "F32", big)},${ok}}`, 6);
    assert.deepEqual([...file.tensors.keys()], ["a", "z", "b"]);
    for (const name of ["__proto__", "constructor", "toString", "", "\0", "../../x", "x".repeat(1_000_000)]) {
      using odd = open(`{${entry(name, 0, 4)}}`, 4);
      assert.deepEqual([...odd.tensors.keys()], [name]);
      assert.equal(odd.readBytes(name).length, 4);
    }
  }));

Deno.test("openSafetensors: 100000 wrong tensors make a short message", () =>
  withFolder((folder) => {
    const path = join(folder, "bomb.safetensors");
    const entries = Array.from({ length: 100_000 }, (_, i) => entry(`t${i}`, 0, 4));
    writeFileSync(path, fileBytes(`{${entries.join(",")}}`, 4));
    assert.throws(() => openSafetensors(path), /and more of the kind/);
    writeFileSync(path, fileBytes(`{${entries.join(",").replaceAll("U8", "X8")}}`, 4));
    assert.throws(() => openSafetensors(path), /and more of the kind/);
  }));

Deno.test("openSafetensors: tells what a file of another kind is", () =>
  withFolder((folder) => {
    const path = join(folder, "model.bin");
    const cases: [Uint8Array | string, RegExp][] = [
      ["PK\x03\x04\x14\0\0\0 and the rest of an archive", /pickle.*\n.*convert it/],
      [Uint8Array.of(0x80, 2, 0x7d, 0x71, 0, 0x58, 1, 0, 0, 0), /pickle/],
      ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", /Git LFS pointer.*\n.*git lfs pull/],
      ["<!DOCTYPE html><html></html>", /web page/],
    ];
    for (const [content, expected] of cases) {
      writeFileSync(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
      assert.throws(() => openSafetensors(path), expected);
    }
    assert.throws(() => openSafetensors(join(folder, "none")), /does not exist/);
    mkdirSync(join(folder, "folder"));
    assert.throws(() => openSafetensors(join(folder, "folder")), UserError);
    // A header of 0x280 bytes begins like a pickle and is none.
    writeFileSync(path, fileBytes("{}".padEnd(0x280)));
    openSafetensors(path)[Symbol.dispose]();
  }));

Deno.test("openSafetensors: a file that shrinks while open, and a closed file", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    writeSimple(path, { a: [1, 2], b: [3, 4] });
    const file = openSafetensors(path);
    truncateSync(path, readFileSync(path).length - 4);
    assert.throws(() => file.readF32("b"), /became shorter/);
    file[Symbol.dispose]();
    file[Symbol.dispose]();
    assert.throws(() => file.readF32("a"), /is closed/);
  }));

Deno.test("openSafetensors: a file that is written to while it is open gives no more, one that takes its name does no harm", () =>
  withFolder((folder) => {
    const path = join(folder, "a.safetensors");
    // Times of files have steps of some milliseconds: set, they differ however fast this is.
    let seconds = 1000;
    const write = (at: string, ...values: number[]) => {
      writeSimple(at, { a: values, b: [3, 4] });
      utimesSync(at, ++seconds, seconds);
    };
    write(path, 1, 2);
    using file = openSafetensors(path);
    write(join(folder, "other"), 5, 6);
    renameSync(join(folder, "other"), path);
    assert.deepEqual([...file.readF32("a")], [1, 2]);
    using next = openSafetensors(path);
    assert.deepEqual([...next.readF32("a")], [5, 6]);
    write(path, 7, 8);
    assert.throws(
      () => next.readF32("b"),
      (error) => error instanceof UserError && /a\.safetensors" was changed while it was read/.test(error.summary),
    );
    assert.deepEqual([...file.readF32("b")], [3, 4]);
  }));

Deno.test("openSafetensors: all golden files hold the tensors their index lists", () => {
  const index = JSON.parse(readFileSync(referencePath("index.json"), "utf8"));
  const dtypes: Record<string, string> = { uint8: "U8", int32: "I32", int64: "I64", bool: "BOOL" };
  let tensors = 0;
  for (const { file: name, tensors: listed } of index.cases) {
    if (!name?.endsWith(".safetensors") || !listed) continue;
    using file = openSafetensors(referencePath(name));
    for (const [tensor, { shape, dtype }] of Object.entries<{ shape: number[]; dtype: string }>(listed)) {
      const info = file.tensors.get(tensor);
      assert.deepEqual(info?.shape, shape, `${name} ${tensor}`);
      assert.equal(info.dtype, dtypes[dtype] ?? dtype.replace("float", "F"), `${name} ${tensor}`);
      tensors++;
    }
  }
  assert.ok(tensors > 500, `${tensors} tensors`);
});
