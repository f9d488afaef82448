import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { addArrays, createWindow, scriptAdder, wasmAdder } from "../../../lib/comm/exchange/adder.ts";
import { fromFileUrl } from "../../paths.ts";

/** Bit patterns of every kind: zeros, denormals, ties, largest, infinities, and a sweep. */
function patterns(count: number, salt: number): Uint32Array<ArrayBuffer> {
  const special = [
    0,
    0x80000000,
    1,
    0x80000001,
    0x7f7fffff,
    0xff7fffff,
    0x7f800000,
    0x3f800000,
    0x3f808000,
    0x3f818000,
  ];
  return Uint32Array.from({ length: count }, (_, i) => {
    if (i < 100) return special[(salt ? i : Math.floor(i / 10)) % 10]!;
    // The exponent stays below that of infinity, so that no NaN arises in the sweep.
    return (Math.imul(i + 1, 2654435761 + salt) >>> 0) & 0xbfffffff;
  });
}

/** Whether two bit patterns are equal, or both NaN: of a NaN neither sign nor payload is specified. */
function same(a: number, b: number, magnitude: number, infinity: number): boolean {
  return a === b || ((a & magnitude) > infinity && (b & magnitude) > infinity);
}

Deno.test("adder_wasm.ts was made from adder.wat", () => {
  const file = (name: string) => readFileSync(fromFileUrl(`../../../lib/comm/exchange/${name}`, import.meta.url));
  const hash = createHash("sha256").update(file("adder.wat")).digest("hex");
  assert.ok(file("adder_wasm.ts").includes(`of SHA-256 ${hash};`));
});

Deno.test("WebAssembly and script sums are bit-equal at every count and offset", () => {
  const memory = createWindow(2 ** 20);
  const buffer = memory.buffer as ArrayBuffer;
  const fast = wasmAdder(memory);
  const count = 5000;
  const [a, b] = [patterns(count, 0), patterns(count, 1)];
  for (const [type, size] of [["f32", 4], ["bf16", 2]] as const) {
    for (const bytes of [0, size, 60, 64, 68, 4096 + 16, 4 * count]) {
      for (const offset of [0, 4, 8, 12, 20]) {
        const expected = new ArrayBuffer(2 ** 17);
        new Uint8Array(buffer).fill(0);
        for (const target of [expected, buffer]) {
          new Uint32Array(target, offset, count).set(a);
          new Uint32Array(target, 65536 + offset, count).set(b);
        }
        // The sum is written over the first range, and to none else, a third, or the second.
        const also = [undefined, 32768 + offset, 65536 + offset][offset / 4 % 3];
        scriptAdder(expected).add(type, offset, 65536 + offset, bytes, also);
        fast.add(type, offset, 65536 + offset, bytes, also);
        const view = (of: ArrayBuffer) =>
          type === "f32" ? new Uint32Array(of, 0, 2 ** 15) : new Uint16Array(of, 0, 2 ** 16);
        const [found, wanted] = [view(buffer), view(expected)];
        const [magnitude, infinity] = type === "f32" ? [0x7fffffff, 0x7f800000] : [0x7fff, 0x7f80];
        wanted.forEach((bits, i) => {
          if (!same(found[i]!, bits, magnitude, infinity)) {
            assert.fail(`${type} of ${bytes} bytes at ${offset}: element ${i} is ${found[i]}, expected ${bits}`);
          }
        });
      }
    }
  }
});

Deno.test("bfloat16 sums round to nearest, ties to even", () => {
  const sum = (a: number, b: number) => {
    const into = new Uint16Array([a]);
    addArrays(into, new Uint16Array([b]));
    return into[0];
  };
  // 1 + 2^-8 lies between 1 (0x3f80) and 1 + 2^-7 (0x3f81): a tie, to even. 1 + 2^-7 + 2^-8 is one too, upwards.
  assert.equal(sum(0x3f80, 0x3b80), 0x3f80);
  assert.equal(sum(0x3f81, 0x3b80), 0x3f82);
  // Largest finite value and its double; infinity less infinity.
  assert.equal(sum(0x7f7f, 0x7f7f), 0x7f80);
  assert.ok((sum(0x7f80, 0xff80)! & 0x7fff) > 0x7f80);
});
