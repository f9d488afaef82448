/**
 * Makes the clips of `examples/clips` again with ffmpeg's own generators: `deno run -A examples/make_clips.ts`.
 *
 * 17 frames at 8 per second are the shortest sample with three latent frames; 160x96 keeps the folder below 64 KB.
 */
import { fileURLToPath } from "node:url";

/** One clip: file name, caption, and the ffmpeg graph that draws it. */
export interface ExampleClip {
  name: string;
  prompt: string;
  source: string;
}

/** Distance of a pixel from the centre of the ball at time T (seconds). */
const BALL = "hypot(X-(14+66*T),Y-(72-54*abs(sin(4.2*T))))";

function ballChannel(ball: number, floor: number, sky: string): string {
  return `if(lt(${BALL},11),${ball},if(gt(Y,82),${floor},${sky}))`;
}

/** Every clip, in the order of the list files. */
export const clips: readonly ExampleClip[] = [
  {
    name: "ball.mp4",
    prompt: "A red ball bounces from left to right across a green lawn under a clear blue sky.",
    source: `color=black:s=160x96:r=8,format=gbrp,geq=r='${ballChannel(235, 60, "120-Y")}':` +
      `g='${ballChannel(50, 140, "170-Y")}':b='${ballChannel(40, 60, "250-Y")}'`,
  },
  {
    name: "fractal.mp4",
    prompt: "The camera flies into the valley of a colourful fractal between two dark round shapes.",
    source: "mandelbrot=s=160x96:r=8:end_scale=0.01:end_pts=24:inner=period:start_x=-0.743643887:start_y=-0.131825904",
  },
  {
    name: "cells.mp4",
    prompt: "Bright green square cells are born and die on a black grid and leave dark red traces behind.",
    source: "life=s=40x24:r=8:mold=8:ratio=0.18:rule=B3/S23:death_color=#C83232:life_color=#30ff60:seed=11," +
      "scale=160:96:flags=neighbor",
  },
  {
    name: "sunset.mp4",
    prompt: "A soft band of orange and yellow light turns slowly clockwise over a deep blue background.",
    source: "gradients=s=160x96:r=8:c0=#ff4000:c1=#ffc000:c2=#1020c0:x0=20:y0=10:x1=140:y1=86:n=3:speed=0.12:seed=3",
  },
];

async function makeClip(clip: ExampleClip, path: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("ffmpeg", {
    args: [
      ...`-v error -nostdin -y -f lavfi -i ${clip.source} -frames:v 17`.split(" "),
      ..."-c:v libx264 -preset slow -pix_fmt yuv420p -crf 26 -threads 1 -movflags +faststart".split(" "),
      ..."-fflags +bitexact -flags:v +bitexact".split(" "),
      path,
    ],
  }).output();
  if (!success) throw new Error(`${clip.name}: ${new TextDecoder().decode(stderr)}`);
}

if (import.meta.main) {
  const folder = fileURLToPath(new URL("clips/", import.meta.url));
  await Deno.mkdir(`${folder}videos`, { recursive: true });
  for (const clip of clips) await makeClip(clip, `${folder}videos/${clip.name}`);
  await Deno.writeTextFile(`${folder}prompts.txt`, clips.map((clip) => `${clip.prompt}\n`).join(""));
  await Deno.writeTextFile(`${folder}videos.txt`, clips.map((clip) => `videos/${clip.name}\n`).join(""));
}
