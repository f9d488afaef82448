/** Norms, gated residuals and elementwise ops. */
import type { DType } from "../../kernels/core/kernel.ts";
import { gelu, silu } from "../../lib/ops/activation.ts";
import { addPositions, addTensors } from "../../lib/ops/add.ts";
import { gatedResidual } from "../../lib/ops/gated_residual.ts";
import { headNorm } from "../../lib/ops/head_norm.ts";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { type OpCase, opCase, type Operand } from "./op_case.ts";
import {
  gatedResidualReference,
  geluReference,
  headNormReference,
  layerNormReference,
  type ModulationReference,
  type Rows,
  siluReference,
} from "./reference.ts";

const EPS = 1e-5;

interface Sequence extends Rows {
  readonly batch: number;
  readonly dtype?: DType;
}

/** Scales around one, so that norms do not vanish. */
const aroundOne = (v: number) => 1 + v;

function rowsOf({ batch, sequence, width, dtype = "f32" }: Sequence): Operand {
  return { shape: [batch, sequence, width], role: "input", dtype, values: (v) => 3 * v + 0.2 };
}

const describe = ({ batch, sequence, textRows, width, dtype = "f32" }: Sequence) =>
  `${dtype} [${batch}, ${textRows} + ${sequence - textRows}, ${width}]`;

function normParameters(size: number, role: Operand["role"] = "parameter") {
  return {
    gamma: { shape: [size], role, values: aroundOne },
    beta: { shape: [size], role },
  };
}

function layerNormCase(shape: Sequence): OpCase {
  return opCase({
    name: `layer norm ${describe(shape)}`,
    operands: { x: rowsOf(shape), ...normParameters(shape.width) },
    record: (plan, { x, gamma, beta }) => layerNorm(plan, x, { gamma, beta }, shape, EPS),
    reference: ({ x, gamma, beta }) => layerNormReference(x, gamma, beta, shape, EPS),
  });
}

/** Every chunk of the modulation is used, as its gradient has one writer per chunk. */
function modulatedCase(shape: Sequence, role: Operand["role"]): OpCase {
  const chunks = shape.textRows > 0 ? 4 : 2;
  const at = { shiftVideo: 0, scaleVideo: 1, shiftText: chunks - 2, scaleText: chunks - 1 };
  const reference = (values: Float64Array): ModulationReference => ({
    values,
    chunks,
    text: { shift: at.shiftText, scale: at.scaleText },
    video: { shift: at.shiftVideo, scale: at.scaleVideo },
  });
  return opCase({
    name: `modulated layer norm ${describe(shape)}, ${role === "constant" ? "frozen" : "trained"}`,
    operands: {
      x: rowsOf(shape),
      ...normParameters(shape.width, role),
      modulation: { shape: [shape.batch, chunks * shape.width], role: "input", shared: "never" },
    },
    record: (plan, { x, gamma, beta, modulation }) =>
      layerNorm(plan, x, { gamma, beta }, shape, EPS, { tensor: modulation, ...at }),
    reference: ({ x, gamma, beta, modulation }) =>
      layerNormReference(x, gamma, beta, shape, EPS, reference(modulation)),
  });
}

function headNormCase(shape: Sequence, rotate: boolean): OpCase {
  const x: Operand = { ...rowsOf(shape), shared: "before" };
  if (!rotate) {
    return opCase({
      name: `head norm ${describe(shape)}`,
      operands: { x, ...normParameters(64) },
      record: (plan, { x, gamma, beta }) => headNorm(plan, x, { gamma, beta }, shape, EPS),
      reference: ({ x, gamma, beta }) => headNormReference(x, gamma, beta, shape, EPS),
    });
  }
  const table: Operand = { shape: [shape.sequence - shape.textRows, 32], role: "constant" };
  return opCase({
    name: `head norm ${describe(shape)} with rotation`,
    operands: {
      x,
      ...normParameters(64),
      cos: { ...table, values: (_, i) => Math.cos(1 + i) },
      sin: { ...table, values: (_, i) => Math.sin(1 + i) },
    },
    record: (plan, { x, gamma, beta, cos, sin }) => headNorm(plan, x, { gamma, beta }, shape, EPS, { cos, sin }),
    reference: ({ x, gamma, beta, cos, sin }) => headNormReference(x, gamma, beta, shape, EPS, { cos, sin }),
  });
}

function gatedCase(shape: Sequence): OpCase {
  const all = 3;
  const chunks = { text: shape.textRows > 0 ? 2 : 0, video: 0, all: shape.textRows > 0 ? all : 1 };
  return opCase({
    name: `gated residual ${describe(shape)}`,
    operands: {
      x: rowsOf(shape),
      y: { ...rowsOf(shape), shared: "before" },
      // The middle chunk belongs to nobody: its gradient is undefined, so the gate is an input only where all are used.
      gate: {
        shape: [shape.batch, chunks.all * shape.width],
        role: chunks.all === 1 ? "input" : "constant",
        shared: "never",
      },
    },
    record: (plan, { x, y, gate }) =>
      gatedResidual(plan, x, y, { tensor: gate, gateText: chunks.text, gateVideo: chunks.video }, shape),
    reference: (values) => gatedResidualReference(values, shape, chunks),
  });
}

function gatedBothCase(shape: Sequence): OpCase {
  const chunks = { text: 1, video: 0, all: 2 };
  return opCase({
    name: `gated residual ${describe(shape)}, both gates`,
    operands: {
      x: rowsOf(shape),
      y: { ...rowsOf(shape), shared: "before" },
      gate: { shape: [shape.batch, 2 * shape.width], role: "input", shared: "never" },
    },
    record: (plan, { x, y, gate }) => gatedResidual(plan, x, y, { tensor: gate, gateText: 1, gateVideo: 0 }, shape),
    reference: (values) => gatedResidualReference(values, shape, chunks),
  });
}

function activationCase(kind: "gelu" | "silu", shape: readonly number[], dtype: DType = "f32"): OpCase {
  const [record, reference] = kind === "gelu" ? [gelu, geluReference] as const : [silu, siluReference] as const;
  return opCase({
    name: `${kind} ${dtype} [${shape}]`,
    operands: { x: { shape, role: "input", dtype, values: (v) => 12 * v, shared: "before" } },
    record: (plan, { x }) => record(plan, x),
    reference: ({ x }) => x.map(reference),
  });
}

function addCase(dtype: DType): OpCase {
  const shape = [3, 20];
  return opCase({
    name: `add ${dtype} [${shape}]`,
    operands: { a: { shape, role: "input", dtype }, b: { shape, role: "input", dtype } },
    record: (plan, { a, b }) => addTensors(plan, a, b),
    reference: ({ a, b }) => a.map((value, i) => value + b[i]!),
    flops: 60,
  });
}

function positionsCase(dtype: DType): OpCase {
  return opCase({
    name: `add positions ${dtype} [3, 5, 12]`,
    operands: {
      x: { shape: [3, 5, 12], role: "input", dtype, shared: "never" },
      table: { shape: [5, 12], role: "constant" },
    },
    record: (plan, { x, table }) => addPositions(plan, x, table),
    reference: ({ x, table }) => x.map((value, i) => value + table[i % 60]!),
  });
}

const joint: Sequence = { batch: 2, sequence: 7, textRows: 3, width: 12 };
const videoOnly: Sequence = { batch: 2, sequence: 5, textRows: 0, width: 20 };
const heads: Sequence = { batch: 2, sequence: 5, textRows: 2, width: 128 };
const many: Sequence = { batch: 1, sequence: 131, textRows: 3, width: 12 };

export const normCases: readonly OpCase[] = [
  layerNormCase(joint),
  layerNormCase({ ...videoOnly, width: 132 }),
  layerNormCase({ ...joint, dtype: "bf16" }),
  modulatedCase(joint, "parameter"),
  modulatedCase(joint, "constant"),
  modulatedCase(videoOnly, "parameter"),
  modulatedCase(many, "parameter"),
  modulatedCase({ ...joint, dtype: "f16" }, "parameter"),
  headNormCase(heads, false),
  headNormCase(heads, true),
  headNormCase({ ...heads, batch: 1, sequence: 37, textRows: 0, width: 64 }, true),
  headNormCase({ ...heads, dtype: "bf16" }, true),
  gatedCase(joint),
  gatedCase(videoOnly),
  gatedBothCase(joint),
  gatedBothCase(many),
  gatedBothCase({ ...joint, dtype: "bf16" }),
  activationCase("gelu", [3, 20]),
  activationCase("gelu", [7, 36], "bf16"),
  activationCase("silu", [5, 12]),
  activationCase("silu", [5, 12], "f16"),
  addCase("f32"),
  addCase("bf16"),
  positionsCase("f32"),
  positionsCase("bf16"),
];
