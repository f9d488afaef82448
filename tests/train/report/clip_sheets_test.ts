import assert from "node:assert/strict";
import { join } from "node:path";
import { clipSheets, MOST_CLIPS } from "../../../lib/train/report/clip_sheets.ts";
import { probe } from "../../../lib/data/video/probe.ts";
import { fitGeometry } from "../../../lib/data/video/geometry.ts";
import { runTool } from "../../../lib/data/video/ffmpeg.ts";
import { examples } from "../runs.ts";

async function sampleOf(path: string, index: number) {
  const info = await probe(join(examples, "clips/videos/ball.mp4"));
  const geometry = fitGeometry(info, { width: 80, height: 48 }, "crop");
  const clip = { path, label: path, indices: [0, 2, 4, 6, 8], geometry, filter: "bilinear" as const };
  const item = { index, name: `${index}.mp4`, prompt: `prompt ${index}`, videoPath: path, imagePath: path };
  return { item, clip };
}

Deno.test("clipSheets() shows four frames of each of the first clips once, and a clip that is gone without a picture", async () => {
  const path = join(examples, "clips/videos/ball.mp4");
  const samples = await Promise.all([path, path, "/nowhere.mp4"].map(sampleOf));
  const sheets = await clipSheets(samples);
  assert.deepEqual(sheets.map(({ name, prompt }) => [name, prompt]), [["1.mp4", "prompt 1"], ["2.mp4", "prompt 2"]]);
  assert.equal(sheets[1]!.picture, undefined);
  const [, base64] = /^data:image\/jpeg;base64,(.*)$/.exec(sheets[0]!.picture!)!;
  let text = "";
  await runTool(
    "ffprobe",
    "-v error -show_entries stream=width,height -of csv=p=0 -f image2pipe -i -".split(" "),
    "sheet",
    {
      input: Uint8Array.fromBase64(base64!),
      onOutput: (chunk) => void (text += new TextDecoder().decode(chunk)),
    },
  );
  // 80 x 48 at 64 rows is 106 x 64 (106.7, even), four of them 424 x 64.
  assert.equal(text.trim(), "424,64");
  const many = Array.from({ length: MOST_CLIPS + 5 }, (_, i) => sampleOf(`/nowhere/${i}.mp4`, i));
  assert.equal((await clipSheets(await Promise.all(many))).length, MOST_CLIPS);
});
