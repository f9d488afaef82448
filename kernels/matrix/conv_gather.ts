/** Where a convolution finds its input: padding, stride and nearest upsampling in index arithmetic. */
import { unroll } from "../core/wgsl.ts";

/**
 * Places the output positions `m0 + line + i * step`: `known{i}`, whether there is one, and where its window begins.
 */
export function placeRows(count: number, step: number, line: string): string {
  return unroll(count, (i) =>
    `let row${i} = m0 + ${i * step}u + ${line};
let known${i} = row${i} < params.positions;
let oy${i} = (row${i} / params.width % params.height) * params.stride;
let ox${i} = (row${i} % params.width) * params.stride;
let frame${i} = (row${i} / (params.width * params.height) + params.time_offset) >> params.time_shift;`);
}

/**
 * For the tap (dt, dy, dx) of every placed position: `inside{i}`, whether it lies in the picture, and the index `at{i}`
 * of its channels.
 */
export function gatherRows(count: number): string {
  return `let tap_y = i32(dy) - i32(params.padding);
let tap_x = i32(dx) - i32(params.padding);
${
    unroll(count, (i) =>
      `let y${i} = u32(i32(oy${i}) + tap_y);
let x${i} = u32(i32(ox${i}) + tap_x);
let inside${i} = known${i} && y${i} < (params.input_height << params.space_shift) && x${i} < (params.input_width << params.space_shift);
let at${i} = select(0u, (((frame${i} + dt) * params.input_height + (y${i} >> params.space_shift)) * params.input_width + (x${i} >> params.space_shift)) * params.channels4, inside${i});`)
  }`;
}
