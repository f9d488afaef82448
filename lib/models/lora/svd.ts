/**
 * Truncated singular value decomposition of a matrix on the host, in f64: a randomised range with power iterations
 * (Halko, Martinsson, Tropp 2011, algorithm 4.4), then one-sided Jacobi on the small rest, which is exact to rounding.
 */

/** Columns beyond the rank that catch what the random start missed. */
const OVERSAMPLING = 8;

/**
 * Fine-tuning changes have slowly falling singular values; two power iterations bring the error within 1% of the best.
 */
const POWER_ITERATIONS = 2;

/** M ~ U diag(s) V^T. */
export interface TruncatedSvd {
  /** U [rows, rank]. */
  readonly u: Float64Array;
  /** Singular values, the largest first. */
  readonly s: Float64Array;
  /** V^T [rank, columns]. */
  readonly vt: Float64Array;
}

/** The `rank` largest singular values and vectors of `matrix` [rows, columns]; the same numbers on every call. */
export function truncatedSvd(matrix: Float64Array, rows: number, columns: number, rank: number): TruncatedSvd {
  const smaller = Math.min(rows, columns);
  if (!Number.isInteger(rank) || rank < 1 || rank > smaller) {
    throw new RangeError(`Cannot take rank ${rank} of a ${rows} x ${columns} matrix`);
  }
  const k = Math.min(rank + OVERSAMPLING, smaller);
  // Row vectors throughout: `q` is [k, rows], so that products and orthogonalisation run along contiguous memory.
  let q = timesTransposed(randomRows(k, columns), matrix, rows, columns, k);
  orthonormalise(q, k, rows);
  for (let i = 0; i < POWER_ITERATIONS; i++) {
    const z = times(q, matrix, rows, columns, k);
    orthonormalise(z, k, columns);
    q = timesTransposed(z, matrix, rows, columns, k);
    orthonormalise(q, k, rows);
  }
  const small = times(q, matrix, rows, columns, k);
  // M ~ Q^T (Q M); rotating both sides alike keeps the product and makes the rows of Q M orthogonal.
  rotateToOrthogonalRows(small, columns, q, rows, k);
  const norms = Array.from({ length: k }, (_, i) => Math.sqrt(dot(small, i, i, columns)));
  const order = norms.map((_, i) => i).sort((a, b) => norms[b]! - norms[a]!).slice(0, rank);
  const u = new Float64Array(rows * rank);
  const vt = new Float64Array(rank * columns);
  order.forEach((from, to) => {
    for (let row = 0; row < rows; row++) u[row * rank + to] = q[from * rows + row]!;
    const norm = norms[from]!;
    for (let i = 0; i < columns; i++) vt[to * columns + i] = norm === 0 ? 0 : small[from * columns + i]! / norm;
  });
  return { u, s: Float64Array.from(order, (from) => norms[from]!), vt };
}

/** Numbers in [-0.5, 0.5); any start that is not orthogonal to the result will do, so a linear congruence does. */
function randomRows(k: number, columns: number): Float64Array {
  let state = 12345;
  return Float64Array.from({ length: k * columns }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
}

/** x [k, rows] times M [rows, columns]. */
function times(x: Float64Array, matrix: Float64Array, rows: number, columns: number, k: number): Float64Array {
  const result = new Float64Array(k * columns);
  for (let row = 0; row < rows; row++) {
    const source = matrix.subarray(row * columns, (row + 1) * columns);
    for (let i = 0; i < k; i++) {
      const factor = x[i * rows + row]!;
      const target = result.subarray(i * columns, (i + 1) * columns);
      for (let c = 0; c < columns; c++) target[c]! += factor * source[c]!;
    }
  }
  return result;
}

/** x [k, columns] times M^T. */
function timesTransposed(
  x: Float64Array,
  matrix: Float64Array,
  rows: number,
  columns: number,
  k: number,
): Float64Array {
  const result = new Float64Array(k * rows);
  for (let row = 0; row < rows; row++) {
    const source = matrix.subarray(row * columns, (row + 1) * columns);
    for (let i = 0; i < k; i++) {
      const factors = x.subarray(i * columns, (i + 1) * columns);
      let sum = 0;
      for (let c = 0; c < columns; c++) sum += factors[c]! * source[c]!;
      result[i * rows + row] = sum;
    }
  }
  return result;
}

function dot(x: Float64Array, i: number, j: number, width: number): number {
  let sum = 0;
  for (let c = 0; c < width; c++) sum += x[i * width + c]! * x[j * width + c]!;
  return sum;
}

/**
 * Gram-Schmidt on rows, each twice: once leaves errors in proportion to how alike the rows are. Dependent rows become
 * zero.
 */
function orthonormalise(x: Float64Array, k: number, width: number): void {
  for (let i = 0; i < k; i++) {
    const row = x.subarray(i * width, (i + 1) * width);
    const before = Math.sqrt(dot(x, i, i, width));
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const overlap = dot(x, i, j, width);
        for (let c = 0; c < width; c++) row[c]! -= overlap * x[j * width + c]!;
      }
    }
    const norm = Math.sqrt(dot(x, i, i, width));
    // What is left of a dependent row is rounding, which normalised would be a random direction.
    const factor = norm > 1e-13 * before ? 1 / norm : 0;
    for (let c = 0; c < width; c++) row[c]! *= factor;
  }
}

/** One-sided Jacobi: rotates pairs of rows of `a` until all are orthogonal, and the rows of `b` with them. */
function rotateToOrthogonalRows(a: Float64Array, widthA: number, b: Float64Array, widthB: number, k: number): void {
  for (let sweep = 0; sweep < 30; sweep++) {
    let rotated = false;
    for (let i = 0; i < k - 1; i++) {
      for (let j = i + 1; j < k; j++) {
        const [p, q, r] = [dot(a, i, i, widthA), dot(a, j, j, widthA), dot(a, i, j, widthA)];
        if (Math.abs(r) <= 1e-14 * Math.sqrt(p * q)) continue;
        rotated = true;
        const zeta = (q - p) / (2 * r);
        const t = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
        const cosine = 1 / Math.hypot(1, t);
        rotate(a, i, j, widthA, cosine, cosine * t);
        rotate(b, i, j, widthB, cosine, cosine * t);
      }
    }
    if (!rotated) return;
  }
}

function rotate(x: Float64Array, i: number, j: number, width: number, cosine: number, sine: number): void {
  for (let c = 0; c < width; c++) {
    const [first, second] = [x[i * width + c]!, x[j * width + c]!];
    x[i * width + c] = cosine * first - sine * second;
    x[j * width + c] = sine * first + cosine * second;
  }
}
