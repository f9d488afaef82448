/** Folders of drawn clips with their sentences, laid out as datasets. */
import { join } from "node:path";
import { RandomStream } from "../../lib/data/random/random.ts";
import { encodeVideo } from "../../lib/data/video/video.ts";
import { writeFileAtomic } from "../../lib/io/atomic.ts";
import { type Colour, COLOURS, type Direction, drawScene, FPS, promptOf, render, type Shape } from "./world.ts";

/** What one clip shows. */
export interface Subject {
  readonly colour: Colour;
  readonly shape: Shape;
  readonly direction: Direction;
}

/** Every combination, `times` times over. */
export function combinations(
  { colours, shapes, directions }: {
    readonly colours: readonly Colour[];
    readonly shapes: readonly Shape[];
    readonly directions: readonly Direction[];
  },
  times: number,
): Subject[] {
  return Array.from(
    { length: times },
    () =>
      shapes.flatMap((shape) =>
        colours.flatMap((colour) => directions.map((direction) => ({ colour, shape, direction })))
      ),
  ).flat();
}

/**
 * The clips of the demo. None shows the star moving down: that it does when asked shows that the subject was learned, not the clips.
 * The last four are of the world that the model knows, one of each direction: without them, everything it makes turns purple.
 */
export function demoClips(): Subject[] {
  const star = { shapes: ["star"], colours: ["purple"], directions: ["to the right", "to the left", "up"] } as const;
  return [
    ...combinations(star, 4),
    { colour: "red", shape: "circle", direction: "to the right" },
    { colour: "green", shape: "square", direction: "up" },
    { colour: "blue", shape: "triangle", direction: "down" },
    { colour: "yellow", shape: "circle", direction: "to the left" },
  ];
}

/** Writes `videos/`, `videos.txt` and `prompts.txt`; size, speed and place of every clip depend on the seed and its number. */
export async function writeClips(folder: string, subjects: readonly Subject[], seed: number): Promise<void> {
  await Deno.mkdir(join(folder, "videos"), { recursive: true });
  const names = subjects.map((_, i) => `videos/${String(i + 1).padStart(String(subjects.length).length, "0")}.mp4`);
  for (const [sample, { colour, shape, direction }] of subjects.entries()) {
    const random = new RandomStream({ seed, purpose: "augmentation", step: 1, sample });
    const video = render(drawScene(random, COLOURS[colour], shape, direction));
    await encodeVideo(join(folder, names[sample]!), video, { fps: FPS });
  }
  const list = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");
  await writeFileAtomic(join(folder, "videos.txt"), list(names));
  const prompts = subjects.map(({ colour, shape, direction }) => promptOf(colour, shape, direction));
  await writeFileAtomic(join(folder, "prompts.txt"), list(prompts));
}
