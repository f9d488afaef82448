/**
 * Powers of two that bring f32 and bf16 numbers into f16, the operand type of matrix units.
 *
 * f16 holds 11 bits from 2^-14 to 2^16 and fewer down to 2^-24. A line (a row of the left operand, a column of the
 * right one) gets one power of two that puts its largest number near 2^{@linkcode AIM}: bf16 numbers then stay exact
 * down to 2^-23 of the largest, f32 numbers keep 11 bits down to 2^-20 of it, and nothing overflows, whatever the other
 * lines hold.
 *
 * The largest number is found while the line is staged, not before: a pass of its own would read the operand from
 * memory once more, which doubles the time of the thin products of adapters (they are bound by reading their input) and
 * adds F / (n B) to the others: 4 % for n = 3072 at F = 300 TFLOP/s and B = 3.3 TB/s. So a scale is taken from the
 * first numbers seen, with 2^{@linkcode CEILING} as the highest value: up to 2^9 times more than the first ones fits.
 * Larger numbers raise a flag that all threads read behind the stage's barrier, for one barrier more; the scale is then
 * lowered, the sums made so far are multiplied by the same power of two, and the numbers are staged again. Before the
 * first numbers the scale is the largest there is, so the first ones set it by the same rule. What happens depends on
 * the numbers alone, never on timing: maxima are exact in any order.
 */

/** Exponent at which the largest number of a line is put. */
const AIM = 6;

/**
 * Exponent above which a scaled number lowers its line's scale; below f16's largest number, 65504, by a factor of two.
 */
const CEILING = 15;

/** Exponent of the scale before any number was seen: the largest whose inverse is a normal number too. */
export const FIRST_EXPONENT = 126;

/** A scaled number above it asks for a smaller scale. */
export const MOST = `${2 ** CEILING}.0`;

/**
 * Declarations for `lines` scales: `grow` records the size of a number, and `settle` turns records into new exponents.
 */
export function scaleDeclarations(lines: number): string {
  return `var<workgroup> grown: atomic<u32>;
var<workgroup> tops: array<atomic<u32>, ${lines}>;
var<workgroup> exponents: array<i32, ${lines}>;
var<workgroup> shifts: array<i32, ${lines}>;
fn power(e: i32) -> f32 { return bitcast<f32>(u32(e + 127) << 23u); }
fn powers(e: vec4i) -> vec4f { return bitcast<vec4f>(vec4u(e + 127) << vec4u(23u)); }
fn largest(v: vec4f) -> f32 { let a = abs(v); return max(max(a.x, a.y), max(a.z, a.w)); }
fn grow(line: u32, size: f32) { atomicMax(&tops[line], bitcast<u32>(size)); }
fn settle(line: u32) {
  let top = i32(atomicExchange(&tops[line], 0u) >> 23u) - 127;
  let old = exponents[line];
  let lowered = select(old, ${AIM} - top, top + old >= ${CEILING});
  exponents[line] = lowered;
  shifts[line] = max(lowered - old, -126);
}`;
}

/** Bytes of workgroup memory per scale. */
export const LINE_BYTES = 12;
