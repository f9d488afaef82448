/**
 * Weight-decomposed adapter (DoRA, arXiv:2402.09353): y = (m / n) u + b by column, u = x (W + s B A)^T, n the norms of
 * the rows of W + s B A. As in the paper (section 4.3) and in peft, n is a constant to the backward pass.
 *
 * Backward, g = dL/dy: du = (m / n) g, dm = sum over rows of g u / n. Saved: u. Where n is 0, m / n is 1 and dm is 0.
 */
import { convert } from "../../kernels/rows/flat.ts";
import { adaptedNorms, magnitudeSums, scaleColumns } from "../../kernels/rows/dora.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";
import { matmul } from "./matmul.ts";

/** Matrices of an adapter and its scale. */
interface Update {
  readonly down: Tensor;
  readonly up: Tensor;
  readonly scale: number;
}

/** Records norms [out], f32: the norm of every row of W + s B A. */
export function rowNorms(plan: Plan, weight: Tensor, update: Update, norms: Tensor): Tensor {
  const { down, up, scale } = update;
  const [out, width] = weight.shape as [number, number];
  const rank = down.shape[0]!;
  const cross = plan.transient("cross", [out, rank], "f32");
  matmul(plan, { layout: "NT", a: weight, b: down, c: cross }, { m: out, n: rank, k: width });
  // A launch binds no tensor twice.
  const copy = plan.transient("copy", down.shape, down.dtype);
  plan.launch(convert({ x: down.dtype, y: copy.dtype }, { elements: down.size }), [down, copy], [copy]);
  const gram = plan.transient("gram", [rank, rank], "f32");
  matmul(plan, { layout: "NT", a: down, b: copy, c: gram }, { m: rank, n: rank, k: width });
  const square = plan.transient("square", [out, rank], "f32");
  matmul(plan, { layout: "NN", a: up, b: gram, c: square }, { m: out, n: rank, k: rank });
  plan.launch(
    adaptedNorms(plan.target, { weight: weight.dtype, up: up.dtype }, { out, width, rank, scale }),
    [weight, up, cross, square, norms],
    [norms],
  );
  return norms;
}

/** Records y = u m / n + b for u [rows, width]; the bias is frozen. */
export function scaleByMagnitude(
  plan: Plan,
  u: Tensor,
  { magnitude, norms, bias }: {
    readonly magnitude: Tensor;
    readonly norms: Tensor;
    readonly bias?: Tensor | undefined;
  },
  y: Tensor,
): Tensor {
  const shape = { rows: u.rows, width: u.width };
  const scaled = (from: Tensor, to: Tensor, bias?: Tensor) => {
    const spec = { u: from.dtype, y: to.dtype, bias: bias?.dtype ?? "none" } as const;
    plan.launch(scaleColumns(spec, shape), [from, magnitude, norms, ...(bias === undefined ? [] : [bias]), to], [to]);
  };
  scaled(u, y, bias);
  return plan.differentiable(y, (g) => {
    plan.contribute(u, (du, accumulate) => {
      if (accumulate) {
        throw new Error(`"${u.name}" feeds a magnitude and something else, which the kernel cannot add to`);
      }
      scaled(g, du);
    });
    plan.contribute(magnitude, (dMagnitude) => {
      const work = magnitudeSums(plan.target, { g: g.dtype, u: u.dtype }, { rows: u.rows, width: u.width });
      recordWork(plan, work, { g, u, norms, out: dMagnitude });
    });
  });
}
