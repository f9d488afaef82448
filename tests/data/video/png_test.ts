import assert from "node:assert/strict";
import { join } from "node:path";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { encodePng } from "../../../lib/data/video/png.ts";
import { decodeImage } from "../../../lib/data/video/video.ts";
import { withFolder } from "../media.ts";

Deno.test("encodePng() is read back by ffmpeg with every pixel equal", async () => {
  await withFolder(async (folder) => {
    for (const [width, height] of [[1, 1], [7, 5], [64, 33]] as const) {
      const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * i * 31 + 7) % 256);
      const path = join(folder, `${width}.png`);
      await Deno.writeFile(path, await encodePng(rgb, width, height));
      const geometry = fitGeometry({ width, height }, { width, height }, "stretch");
      assert.deepEqual((await decodeImage(path, { geometry })).data, rgb);
    }
  });
});

Deno.test("encodePng() refuses bytes that do not fit the size", async () => {
  await assert.rejects(encodePng(new Uint8Array(11), 2, 2), RangeError);
});
