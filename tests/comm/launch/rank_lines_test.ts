/** Lines of ranks, wherever the pieces in which they arrive are cut. */
import assert from "node:assert/strict";
import { readLines } from "../../../lib/comm/launch/rank_lines.ts";

async function linesOf(text: string, pieces: number): Promise<string[]> {
  const bytes = new TextEncoder().encode(text);
  const size = Math.ceil(bytes.length / pieces);
  const parts = Array.from({ length: pieces }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
  const lines: string[] = [];
  await readLines(ReadableStream.from(parts), 3, "error", ({ rank, stream, text }) => {
    assert.deepEqual([rank, stream], [3, "error"]);
    lines.push(text);
  });
  return lines;
}

Deno.test("lines are whole, letters too, and the last needs no end", async () => {
  const text = "läuft: 5 µs\r\n\n日本語\nthe end 🙂";
  for (const pieces of [1, 2, 7, new TextEncoder().encode(text).length]) {
    assert.deepEqual(await linesOf(text, pieces), ["läuft: 5 µs", "", "日本語", "the end 🙂"], `${pieces} pieces`);
  }
  assert.deepEqual(await linesOf("one\n", 2), ["one"]);
});
