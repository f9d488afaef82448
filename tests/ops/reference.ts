/** Every op of the transformer by its definition, in float64. Tensors are flat and row-major. */

const WIDE = (length: number) => new Float64Array(length);

/** x [m, k] times the transpose of w [n, k], plus bias. */
export function linearReference(
  x: Float64Array,
  w: Float64Array,
  bias: Float64Array | undefined,
  k: number,
): Float64Array {
  const n = w.length / k;
  const m = x.length / k;
  const y = WIDE(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = bias?.[j] ?? 0;
      for (let c = 0; c < k; c++) sum += x[i * k + c]! * w[j * k + c]!;
      y[i * n + j] = sum;
    }
  }
  return y;
}

/** Tanh form of the Gaussian error linear unit. */
export function geluReference(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** x times its logistic. */
export function siluReference(x: number): number {
  return x / (1 + Math.exp(-x));
}

/** Rows of a joint sequence: which batch element, and whether text. */
export interface Rows {
  readonly sequence: number;
  readonly textRows: number;
  readonly width: number;
}

/** Normalises every group of `size` consecutive values. */
function normalised(x: Float64Array, size: number, eps: number): Float64Array {
  const y = WIDE(x.length);
  for (let start = 0; start < x.length; start += size) {
    let mean = 0;
    for (let c = 0; c < size; c++) mean += x[start + c]! / size;
    let variance = 0;
    for (let c = 0; c < size; c++) variance += (x[start + c]! - mean) ** 2 / size;
    for (let c = 0; c < size; c++) y[start + c] = (x[start + c]! - mean) / Math.sqrt(variance + eps);
  }
  return y;
}

/** Which chunk of the conditioning scales and shifts the rows of a segment. */
export interface ModulationReference {
  readonly values: Float64Array;
  readonly chunks: number;
  readonly text: { readonly shift: number; readonly scale: number };
  readonly video: { readonly shift: number; readonly scale: number };
}

/** (xhat gamma + beta)(1 + scale) + shift. */
export function layerNormReference(
  x: Float64Array,
  gamma: Float64Array,
  beta: Float64Array,
  { sequence, textRows, width }: Rows,
  eps: number,
  modulation?: ModulationReference,
): Float64Array {
  return normalised(x, width, eps).map((value, i) => {
    const c = i % width;
    const row = Math.floor(i / width);
    const affine = value * gamma[c]! + beta[c]!;
    if (modulation === undefined) return affine;
    const { shift, scale } = row % sequence < textRows ? modulation.text : modulation.video;
    const at = (chunk: number) =>
      modulation.values[(Math.floor(row / sequence) * modulation.chunks + chunk) * width + c]!;
    return affine * (1 + at(scale)) + at(shift);
  });
}

/** Layer norm of every head of 64 channels, then the rotation of channel pairs of video rows. */
export function headNormReference(
  x: Float64Array,
  gamma: Float64Array,
  beta: Float64Array,
  { sequence, textRows, width }: Rows,
  eps: number,
  rotary?: { readonly cos: Float64Array; readonly sin: Float64Array },
): Float64Array {
  const size = gamma.length;
  const affine = normalised(x, size, eps).map((value, i) => value * gamma[i % size]! + beta[i % size]!);
  if (rotary === undefined) return affine;
  return affine.map((value, i) => {
    const row = Math.floor(i / width) % sequence - textRows;
    if (row < 0) return value;
    const at = row * size / 2 + ((i % size) >> 1);
    const partner = i % 2 === 0 ? -affine[i + 1]! : affine[i - 1]!;
    return value * rotary.cos[at]! + partner * rotary.sin[at]!;
  });
}

/** softmax(q k^T / sqrt(head width)) v for every head of tensors [batch, sequence, heads * head width]. */
export function attentionReference(
  { q, k, v }: { readonly q: Float64Array; readonly k: Float64Array; readonly v: Float64Array },
  { batch, sequence, heads, headDim }: {
    readonly batch: number;
    readonly sequence: number;
    readonly heads: number;
    readonly headDim: number;
  },
): Float64Array {
  const y = WIDE(q.length);
  const scores = WIDE(sequence);
  for (let head = 0; head < batch * heads; head++) {
    const first = Math.floor(head / heads) * sequence;
    const at = (row: number) => (first + row) * heads * headDim + (head % heads) * headDim;
    for (let i = 0; i < sequence; i++) {
      for (let j = 0; j < sequence; j++) {
        let sum = 0;
        for (let c = 0; c < headDim; c++) sum += q[at(i) + c]! * k[at(j) + c]!;
        scores[j] = sum / Math.sqrt(headDim);
      }
      const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const weights = scores.map((s) => Math.exp(s - top));
      const total = weights.reduce((a, b) => a + b);
      for (let j = 0; j < sequence; j++) {
        for (let c = 0; c < headDim; c++) y[at(i) + c]! += weights[j]! / total * v[at(j) + c]!;
      }
    }
  }
  return y;
}

/** x + gate * y with the gate chunk of the row's segment. */
export function gatedResidualReference(
  { x, y, gate }: { readonly x: Float64Array; readonly y: Float64Array; readonly gate: Float64Array },
  { sequence, textRows, width }: Rows,
  chunks: { readonly text: number; readonly video: number; readonly all: number },
): Float64Array {
  return x.map((value, i) => {
    const row = Math.floor(i / width);
    const chunk = row % sequence < textRows ? chunks.text : chunks.video;
    return value + gate[(Math.floor(row / sequence) * chunks.all + chunk) * width + i % width]! * y[i]!;
  });
}

/** Size of a latent [batch, frames, channels, height, width] and of its patches of 2 x 2 pixels and `span` frames. */
export interface LatentReference {
  readonly batch: number;
  readonly frames: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly span: number;
}

/** Where in the latent every element of the rows [batch, tokens, channels * span * 4] comes from. */
export function patchOrder({ batch, frames, channels, height, width, span }: LatentReference): number[] {
  const order: number[] = [];
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < frames; t += span) {
      for (let i = 0; i < height; i += 2) {
        for (let j = 0; j < width; j += 2) {
          for (let c = 0; c < channels; c++) {
            for (let r = 0; r < span; r++) {
              for (let pixel = 0; pixel < 4; pixel++) {
                const frame = (b * frames + t + r) * channels + c;
                order.push((frame * height + i + (pixel >> 1)) * width + j + pixel % 2);
              }
            }
          }
        }
      }
    }
  }
  return order;
}
