/** Rounding as numpy and PyTorch round. */

/** The nearest whole number; halves go to the even one, where `Math.round` takes the larger. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
