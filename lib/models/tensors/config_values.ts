/**
 * Which numbers a model's config.json may hold. Sizes are bounded before anything is made of them: a file may be
 * hostile.
 */

/** Advice for a config of which something can't be computed. */
export const LIMITS_HINT =
  "these are limits of cogtune, which computes CogVideoX as released, in any size; other programs may read the folder";

/** No released model comes near; a block has 28 tensors, so more layers would only fill memory with names. */
const MOST_LAYERS = 1024;

/** Largest width, length or vocabulary. */
const LARGEST_SIZE = 2 ** 20;

/** Keys that are factors rather than sizes. */
const FACTOR = /scal|eps|epsilon/;

/** What is wrong with the number of a config key, or undefined. Sizes are whole and at least 1, factors positive. */
export function numberProblem(key: string, value: number): string | undefined {
  if (FACTOR.test(key)) {
    return value > 0 && value < Infinity ? undefined : `${key} is ${value}: expected a positive number`;
  }
  const most = /layers/.test(key) ? MOST_LAYERS : LARGEST_SIZE;
  if (Number.isInteger(value) && value >= 1 && value <= most) return undefined;
  return `${key} is ${value}: expected a whole number from 1 to ${most}`;
}
