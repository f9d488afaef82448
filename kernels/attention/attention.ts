/**
 * Attention: every way to compute its three passes, and which of them runs where nothing was measured. Per head,
 * o = softmax(scale q k^T (+ bias)) v, and lse = log sum exp of the scores is kept for the backward pass. With
 * p = exp(scale q k^T - lse), dp = dout v^T and delta = rowsum(o dout): dv = p^T dout, ds = p (dp - delta), dq = scale
 * ds k, dk = scale ds^T q. Scores are computed again, never stored.
 */
import type { Launch, Target, Work } from "../core/kernel.ts";
import { type Family, solve, type Variant } from "../core/variants.ts";
import { octetKeyValue, octetQuery } from "./octet_backward.ts";
import { octetForward } from "./octet_forward.ts";
import { launchOctets, type Octet } from "./octet.ts";
import { KEY_VALUE_UNITS, QUERY_UNITS } from "./backward_units.ts";
import { FORWARD_UNITS } from "./forward_units.ts";
import { ATTENTION_SIZES, type AttentionSize, attentionTile, launchUnits, type UnitsText } from "./unit_tile.ts";
import { launchPlain, plainBackwardKeyValue, plainBackwardQuery, plainDelta, plainForward } from "./plain.ts";
import {
  type AttentionShape,
  type AttentionSpec,
  biasStride,
  checkAttention,
  paddedSequence,
  type Pass,
} from "./shape.ts";
import { launchStaged, STAGED_SIZES, stagedBytes, type StagedPass, type StagedRows } from "./staged.ts";
import { STAGED_FORWARD, STAGED_KEY_VALUE, STAGED_QUERY } from "./staged_passes.ts";

/** A pass with its texts. */
interface Texts extends Pass {
  readonly octet: (octet: Octet) => string;
  readonly staged: StagedPass;
  readonly plain: (headDim: number, bias: boolean) => string;
  readonly units: UnitsText;
}

const BACKWARD = ["query", "key", "value", "dout", "lse", "delta"];

const FORWARD: Texts = {
  name: "attention_forward",
  reads: ["query", "key", "value"],
  writes: ["o", "lse"],
  products: 2,
  octet: octetForward,
  staged: STAGED_FORWARD,
  plain: plainForward,
  units: FORWARD_UNITS,
};

const QUERY: Texts = {
  name: "attention_query",
  reads: BACKWARD,
  writes: ["dq"],
  products: 3,
  octet: octetQuery,
  staged: STAGED_QUERY,
  plain: plainBackwardQuery,
  units: QUERY_UNITS,
};

const KEY_VALUE: Texts = {
  name: "attention_key_value",
  reads: BACKWARD,
  writes: ["dk", "dv"],
  products: 4,
  octet: octetKeyValue,
  staged: STAGED_KEY_VALUE,
  plain: plainBackwardKeyValue,
  units: KEY_VALUE_UNITS,
};

/** One way to compute all three passes. */
interface Way {
  readonly name: string;
  applies(pass: Texts, target: Target, spec: AttentionSpec): boolean;
  launch(pass: Texts, target: Target, spec: AttentionSpec, shape: AttentionShape): Launch;
}

/**
 * Octets have 32 columns per lane or 64; relative biases are T5's, whose attention is one hundredth of its arithmetic.
 */
function octets(name: string, octet: Omit<Octet, "headDim">): Way {
  return {
    name,
    applies: (_, { subgroups }, { headDim, bias = false }) =>
      !bias && (headDim === 32 || headDim === 64) && (octet.wide ? subgroups >= 16 : subgroups > 0 && subgroups < 16),
    launch: (pass, _, spec, shape) => launchOctets(pass, pass.octet, { headDim: spec.headDim, ...octet }, spec, shape),
  };
}

/** Any subgroup size that is a multiple of eight keeps together the threads that share rows. */
function staged(name: string, tile: Omit<StagedRows, "headDim">): Way {
  return {
    name,
    applies: (pass, { subgroups, workgroupBytes }, { headDim, bias = false }) =>
      !bias && (headDim === 32 || headDim === 64) && subgroups > 0 &&
      stagedBytes({ headDim, ...tile }, pass.staged) <= workgroupBytes,
    launch: (pass, _, spec, shape) => launchStaged(pass, pass.staged, { headDim: spec.headDim, ...tile }, spec, shape),
  };
}

/** Rows of a head on matrix units; they have no relative biases. */
function units(name: string, size: AttentionSize): Way {
  const tileOf = (pass: Texts, target: Target, { headDim }: AttentionSpec) =>
    attentionTile(target, size, headDim, pass.units.kept);
  return {
    name,
    applies: (pass, target, spec) => spec.bias !== true && tileOf(pass, target, spec) !== undefined,
    launch: (pass, target, spec, shape) => launchUnits(pass, pass.units, tileOf(pass, target, spec)!, spec, shape),
  };
}

const WAYS: readonly Way[] = [
  { name: "plain", applies: () => true, launch: (pass, _, spec, shape) => launchPlain(pass, pass.plain, spec, shape) },
  // One octet per workgroup keeps every subgroup size from 8 up correct where the smallest is 8. Against the matrix
  // product with tiles of 64 x 4 on the software adapter, 16, 24 and 32 rows reach 71, 82 and 89 % forward and 75, 83
  // and 91 % backward; the three kernels compile in 4, 6 and 9 s together.
  octets("octets 16", { rows: 16, octets: 1, wide: false }),
  octets("octets 32", { rows: 32, octets: 1, wide: false }),
  // A thread of a GPU has at most 255 registers, and 8 rows take up to 192 of them.
  octets("wide octets 8", { rows: 8, octets: 8, wide: true }),
  ...STAGED_SIZES.map(({ name, tile }) => staged(name, tile)),
  ...ATTENTION_SIZES.map(({ name, size }) => units(name, size)),
];

/** Sequence from which a run is long enough to repay the compile time of the taller tile. */
const LONG_SEQUENCE = 512;

function prefer(pass: Texts, target: Target, spec: AttentionSpec, { sequence }: AttentionShape): string {
  const fits = (name: string) => WAYS.find((way) => way.name === name)!.applies(pass, target, spec);
  const onUnits = ATTENTION_SIZES.find(({ name }) => fits(name));
  if (onUnits !== undefined) return onUnits.name;
  if (target.subgroups < 16) {
    const tall = sequence < LONG_SEQUENCE ? "octets 16" : "octets 32";
    return fits(tall) ? tall : "plain";
  }
  // Two operands with 64 rows of 64 columns take more workgroup memory than software drivers have, so nothing has
  // proven them yet.
  const rows = pass.staged.own.length === 1 ? "staged 64x8" : "staged 32x4";
  return [rows, "staged 32x4", "wide octets 8"].find(fits) ?? "plain";
}

function familyOf(pass: Texts): Family<AttentionSpec, AttentionShape> {
  const variants = WAYS.map(({ name, applies, launch }): Variant<AttentionSpec, AttentionShape> => ({
    name,
    applies: (target, spec) => applies(pass, target, spec),
    work: (target, spec, shape) => ({ launches: [{ launch: launch(pass, target, spec, shape), writes: pass.writes }] }),
  }));
  return {
    name: pass.name,
    variants,
    prefer: (target, spec, shape) => prefer(pass, target, spec, shape),
    twin: "plain",
    traits: ({ dtype, headDim, bias = false }, { batch, heads, sequence }) => ({
      dtype,
      headDim,
      bias,
      batch,
      heads,
      sequence,
    }),
    operands(spec, shape) {
      const { batch, heads, sequence } = shape;
      const names = [...pass.reads, ...pass.writes, ...(spec.bias ? ["bias"] : [])];
      return Object.fromEntries(names.map((name) => {
        if (name === "lse" || name === "delta") return [name, batch * heads * paddedSequence(sequence)];
        if (name === "bias") return [name, heads * biasStride(sequence)];
        return [name, batch * sequence * heads * spec.headDim];
      }));
    },
    probe: ({ heads, sequence, ...rest }) => ({
      ...rest,
      heads: Math.min(heads, 2),
      sequence: Math.min(sequence, 133),
    }),
  };
}

/** The families of the three passes. */
export const attentionFamilies = {
  forward: familyOf(FORWARD),
  query: familyOf(QUERY),
  keyValue: familyOf(KEY_VALUE),
};

/**
 * o and lse. Operands: query, key, value, o, lse, and bias if the spec has one. lse is f32 [batch, heads,
 * `paddedSequence`]; its padding is not written. bias is f32 [heads, `biasStride`].
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionForward(target: Target, spec: AttentionSpec, shape: AttentionShape): Work {
  checkAttention(spec, shape);
  return solve(attentionFamilies.forward, target, spec, shape);
}

/**
 * delta = rowsum(o * dout) per head. Buffers: o, dout, delta (f32, shaped like lse; its padding is not written).
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionDelta(spec: AttentionSpec, shape: AttentionShape): Launch {
  checkAttention(spec, shape);
  const pass = { name: "attention_delta", reads: ["o", "dout"], writes: ["delta"], products: 0 };
  const { batch, heads, sequence } = shape;
  return { ...launchPlain(pass, plainDelta, spec, shape), flops: 2 * batch * heads * sequence * spec.headDim };
}

/**
 * Gradient of the queries. Operands: query, key, value, dout, lse, delta, dq.
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionBackwardQuery(target: Target, spec: AttentionSpec, shape: AttentionShape): Work {
  checkAttention(spec, shape);
  return solve(attentionFamilies.query, target, spec, shape);
}

/**
 * Gradients of the keys and values. Operands: query, key, value, dout, lse, delta, dk, dv.
 *
 * @throws {RangeError} as {@linkcode checkAttention}.
 */
export function attentionBackwardKeyValue(target: Target, spec: AttentionSpec, shape: AttentionShape): Work {
  checkAttention(spec, shape);
  return solve(attentionFamilies.keyValue, target, spec, shape);
}
