/** Counts in groups of four elements, the unit in which kernels address buffers. */

/**
 * `elements / 4`.
 *
 * @throws {RangeError} when `elements` is not a positive multiple of four.
 */
export function fours(what: string, elements: number): number {
  if (!Number.isInteger(elements) || elements < 0 || elements % 4 !== 0) {
    throw new RangeError(`Cannot address ${what} as buffers are read four elements at a time: got ${elements}`);
  }
  return elements / 4;
}
