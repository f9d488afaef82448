/** Rounding as numpy and Python do it, for numbers that have to equal theirs. */

/** The nearest integer; of two equally near, the even one. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
