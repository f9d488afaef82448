/** The scorer of the demo sees in drawn clips what was drawn. */
import assert from "node:assert/strict";
import {
  type Colour,
  COLOURS,
  type Direction,
  DIRECTIONS,
  drawScene,
  FRAMES,
  render,
  type Shape,
  SHAPES,
  SIZE,
} from "../../examples/make/world.ts";
import { RandomStream } from "../../lib/data/random/random.ts";
import { look } from "./look.ts";

Deno.test("every colour and direction is told from the others, whatever the shape", () => {
  const directions = Object.keys(DIRECTIONS) as Direction[];
  let sample = 0;
  for (const colour of Object.keys(COLOURS) as Colour[]) {
    for (const shape of Object.keys(SHAPES) as Shape[]) {
      const direction = directions[sample % directions.length]!;
      const random = new RandomStream({ seed: 7, purpose: "augmentation", step: 0, sample: sample++ });
      const seen = look(render(drawScene(random, COLOURS[colour], shape, direction)))!;
      assert.deepEqual([seen.colour, seen.direction], [colour, direction]);
      // Pixels on an outline are mixed with the ground.
      assert.ok(seen.share > 0.8, `${colour} ${shape}: ${JSON.stringify(seen)}`);
    }
  }
});

Deno.test("nothing is seen on empty ground", () => {
  assert.equal(
    look({ data: new Uint8Array(FRAMES * SIZE * SIZE * 3), frames: FRAMES, height: SIZE, width: SIZE }),
    undefined,
  );
});
