import assert from "node:assert/strict";
import { normalise, toPixels } from "../../../lib/data/video/normalise.ts";
import { readGolden } from "../golden.ts";

Deno.test("normalise() and toPixels() equal the reference bit for bit", async () => {
  const golden = await readGolden("data/normalise.safetensors");
  const bytes = golden.get("uint8")!.bytes;
  const expected = new Float32Array(golden.get("normalised")!.bytes.buffer);
  // One row of 256 grey pixels, so each of the three planes is the whole table.
  const data = new Uint8Array(bytes.length * 3).map((_, i) => bytes[Math.floor(i / 3)]!);
  const planes = normalise({ data, frames: 1, height: 1, width: 256 });
  for (let channel = 0; channel < 3; channel++) {
    assert.deepEqual(planes.subarray(channel * 256, (channel + 1) * 256), expected);
  }

  const values = new Float32Array(golden.get("model_value")!.bytes.buffer);
  const tripled = new Float32Array(values.length * 3);
  for (let channel = 0; channel < 3; channel++) tripled.set(values, channel * values.length);
  const pixels = toPixels(tripled, { frames: 1, height: 1, width: values.length });
  assert.deepEqual(pixels.data.filter((_, i) => i % 3 === 1), golden.get("pixel")!.bytes);
});

Deno.test("normalise() moves the channel in front and toPixels() moves it back", () => {
  const [frames, height, width] = [2, 3, 5];
  const data = Uint8Array.from({ length: frames * height * width * 3 }, (_, i) => (i * 37) % 256);
  const planes = normalise({ data, frames, height, width });
  for (let f = 0; f < frames; f++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) {
          const level = data[((f * height + y) * width + x) * 3 + c]!;
          assert.ok(Math.abs(planes[((c * frames + f) * height + y) * width + x]! - (level / 127.5 - 1)) < 1e-7);
        }
      }
    }
  }
  assert.deepEqual(toPixels(planes, { frames, height, width }).data, data);
});

Deno.test("normalise() and toPixels() refuse sizes that do not fit", () => {
  assert.throws(() => normalise({ data: new Uint8Array(10), frames: 1, height: 2, width: 2 }), RangeError);
  assert.throws(() => toPixels(new Float32Array(10), { frames: 1, height: 2, width: 2 }), RangeError);
});
