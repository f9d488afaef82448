import assert from "node:assert/strict";
import { join } from "node:path";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { normalise } from "../../../lib/data/video/normalise.ts";
import { resizeImage } from "../../../lib/data/video/resize.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { decodeImage } from "../../../lib/data/video/video.ts";
import { clipsFolder } from "../../reference.ts";
import { DECODED, decodedClips, difference, readGolden } from "../golden.ts";

Deno.test("resizeImage() equals OpenCV, Pillow bilinear and Pillow Lanczos in every byte", async () => {
  const golden = await readGolden("data/resize.safetensors");
  const rules = { cv2_bilinear: "opencv", pil_bilinear: "bilinear", pil_lanczos: "lanczos" } as const;
  let compared = 0;
  for (let k = 0; golden.has(`case${k}.image`); k++) {
    const { bytes, shape: [height, width] } = golden.get(`case${k}.image`)!;
    for (const [name, rule] of Object.entries(rules)) {
      const expected = golden.get(`case${k}.${name}`);
      if (expected === undefined) continue;
      const size = { width: expected.shape[1], height: expected.shape[0] };
      const { data } = resizeImage({ data: bytes, frames: 1, width, height }, size, rule);
      assert.deepEqual(difference(data, expected.bytes), { mean: 0, max: 0 }, `case${k} ${name}`);
      compared++;
    }
    const processed = golden.get(`case${k}.pipeline_preprocess`)!;
    const size = { width: processed.shape[2], height: processed.shape[1] };
    const values = normalise(resizeImage({ data: bytes, frames: 1, width, height }, size, "lanczos"));
    assert.ok(difference(values, new Float32Array(processed.bytes.buffer)).max < 1e-6, `case${k}`);
  }
  assert.ok(compared >= 6, `${compared} comparisons`);
});

for (const name of decodedClips(".image")) {
  Deno.test(`${name}, decoded at its own size and resized by rule opencv, equals the original trainer`, async () => {
    const { bytes, shape: [height, width] } = (await readGolden(DECODED)).get(name)!;
    const path = join(clipsFolder, "images", `${name.split(".")[0]}.png`);
    const own = await probe(path);
    const image = await decodeImage(path, { geometry: fitGeometry(own, own, "stretch") });
    const { data } = resizeImage(image, { width: width!, height: height! }, "opencv");
    assert.deepEqual(difference(data, bytes), { mean: 0, max: 0 });
  });
}

Deno.test("resizeImage() keeps a plain colour and an unchanged size", () => {
  const image = { data: new Uint8Array(12 * 7 * 3).fill(201), frames: 1, width: 12, height: 7 };
  for (const rule of ["opencv", "bilinear", "lanczos"] as const) {
    for (const size of [{ width: 5, height: 3 }, { width: 31, height: 20 }, { width: 1, height: 1 }]) {
      assert.ok(resizeImage(image, size, rule).data.every((level) => level === 201), rule);
    }
    const noise = { ...image, data: image.data.map((_, i) => (i * i * 13) % 256) };
    assert.deepEqual(resizeImage(noise, image, rule).data, noise.data, rule);
  }
});

Deno.test("resizeImage() refuses clips and sizes that are not positive integers", () => {
  const image = { data: new Uint8Array(24), frames: 2, width: 2, height: 2 };
  assert.throws(() => resizeImage(image, { width: 1, height: 1 }, "opencv"), RangeError);
  const one = { data: new Uint8Array(12), frames: 1, width: 2, height: 2 };
  assert.throws(() => resizeImage(one, { width: 0, height: 1 }, "opencv"), RangeError);
});
