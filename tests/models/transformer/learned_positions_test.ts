/** Learned positions serve the one shape that they were learned for; others get sines, or are refused. */
import assert from "node:assert/strict";
import { UserError } from "../../../lib/errors.ts";
import { innerDim, RELEASED } from "../../../lib/models/transformer/config.ts";
import { additivePositions } from "../../../lib/models/transformer/inputs.ts";
import { sincosTable, tokenCount, tokenGrid } from "../../../lib/models/transformer/positions.ts";
import { numbers } from "../../kernels/run.ts";

const config = RELEASED["tiny-5b-i2v"]!;
const [height, width, textRows] = [config.sample_height, config.sample_width, config.max_text_seq_length];
const frames = (config.sample_frames - 1) / 4 + 1;
const shape = (changes: object) => ({ batch: 1, frames, height, width, textRows, ...changes });
const learned = numbers((textRows + tokenCount(tokenGrid(config, frames, height, width))) * innerDim(config));

/** Zeros for the text, then sines. */
function sines(frames: number): Float32Array {
  const table = sincosTable(config, tokenGrid(config, frames, height, width));
  return Float32Array.of(...new Float32Array(textRows * innerDim(config)), ...table);
}

Deno.test("the learned table is taken as it is at its own number of frames, and sines at every other", () => {
  assert.deepEqual(additivePositions(config, shape({}), learned), { table: learned, fallback: false });
  for (const other of [1, frames - 1, frames + 1, 2 * frames]) {
    const { table, fallback } = additivePositions(config, shape({ frames: other }), learned);
    assert.equal(fallback, true, `${other} frames`);
    assert.deepEqual(table, sines(other), `${other} frames`);
  }
  assert.deepEqual(additivePositions(config, shape({ frames: 5 })), { table: sines(5), fallback: false });
});

Deno.test("other sizes of pictures and prompts are refused", () => {
  for (const changes of [{ height: height + 2 }, { width: width - 2 }, { textRows: textRows - 1 }]) {
    assert.throws(() => additivePositions(config, shape(changes), learned), UserError);
  }
});
