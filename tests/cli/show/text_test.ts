/** Numbers as people read them, at the edges of their units. */
import assert from "node:assert/strict";
import { formatBytes, formatDuration, formatFlops, wrapText } from "../../../lib/cli/show/text.ts";

Deno.test("bytes have three digits in the unit that suits them", () => {
  const expected: Readonly<Record<string, number>> = {
    "0 bytes": 0,
    "1023 bytes": 1023,
    "1.00 KiB": 1024,
    "1.50 GiB": 1.5 * 2 ** 30,
    "1000 MiB": 1000 * 2 ** 20,
    "1023 MiB": 1023 * 2 ** 20,
    "1.00 GiB": 2 ** 30,
    "2048 TiB": 2 ** 51,
  };
  assert.deepEqual(Object.values(expected).map(formatBytes), Object.keys(expected));
});

Deno.test("durations and work change their unit where the next one begins", () => {
  assert.deepEqual([0, 59.4, 59.6, 3599, 3600, 86_399, 86_400, 90_061].map(formatDuration), [
    "0 s",
    "59 s",
    "1 min 0 s",
    "59 min 59 s",
    "1 h 0 min",
    "23 h 59 min",
    "1 d 0 h",
    "1 d 1 h",
  ]);
  assert.deepEqual([5e8, 1e12, 2.5e15].map(formatFlops), ["0.500 GFLOP", "1.00 TFLOP", "2.50 PFLOP"]);
});

Deno.test("lines are as long as they may be", () => {
  assert.deepEqual(wrapText("a bc def ghij", 6), ["a bc", "def", "ghij"]);
  assert.deepEqual(wrapText("a bc def", 8), ["a bc def"]);
});
