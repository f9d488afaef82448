/**
 * Sums of rows, y[i] = scale * sum of x[j] over the j listed for i: a product with a sparse matrix of ones. Windows of a
 * convolution, padding, strides, repeated and averaged frames are all of this kind; so is the gradient, whose lists are those of
 * the transposed matrix.
 */
import { type DType, foldGrid, type Launch } from "../../kernels/core/kernel.ts";
import { buildKernel, unroll } from "../../kernels/core/wgsl.ts";
import type { Session } from "../../lib/gpu/session.ts";
import type { Plan } from "../../lib/plan/plan.ts";
import { Tensor } from "../../lib/plan/tensor.ts";

const THREADS = 64;

/** For every row of the result the rows of the source that are added. */
export interface RowLists {
  /** Rows of the source. */
  readonly sources: number;
  readonly lists: readonly (readonly number[])[];
  readonly scale: number;
}

/** Lists one behind the other on the GPU; list i is entries[starts[i]] to entries[starts[i + 1]]. */
interface PackedLists {
  readonly starts: Tensor;
  readonly entries: Tensor;
}

/** One thread per row: a thread per vector would divide its index by the width, which costs more than the sum. */
function sumRows(dtype: DType, shape: { rows: number; width: number; scale: number; accumulate: boolean }): Launch {
  const { rows, width, scale, accumulate } = shape;
  const vectors = width / 4;
  const each = (line: (c: number) => string) => unroll(vectors, line, " ");
  return {
    kernel: buildKernel({
      name: "sum_rows",
      spec: { dtype, accumulate, width },
      params: ["rows", "scale:f32"],
      buffers: [
        { name: "starts", dtype: "u32" },
        { name: "entries", dtype: "u32" },
        { name: "x", dtype },
        { name: "y", dtype },
      ],
      workgroupSize: THREADS,
      body: `if (gid >= params.rows) { return; }
${each((c) => `var s${c} = vec4f(0);`)}
let end = load_starts(gid + 1u);
for (var k = load_starts(gid); k < end; k++) {
  let at = load_entries(k) * ${vectors}u;
  ${each((c) => `s${c} += load_x(at + ${c}u);`)}
}
let to = gid * ${vectors}u;
${each((c) => `store_y(to + ${c}u, s${c} * params.scale${accumulate ? ` + load_y(to + ${c}u)` : ""});`)}`,
    }),
    params: [rows, scale],
    grid: foldGrid(Math.ceil(rows / THREADS)),
    flops: rows * width,
  };
}

/** A sparse matrix of ones on a device. */
export class SparseRows {
  readonly #forward: PackedLists;
  readonly #backward: PackedLists;

  constructor(session: Session, readonly rows: RowLists) {
    const { sources, lists } = rows;
    const transposed: number[][] = Array.from({ length: sources }, () => []);
    lists.forEach((list, i) => list.forEach((j) => transposed[j]!.push(i)));
    this.#forward = upload(session, lists);
    this.#backward = upload(session, transposed);
  }

  /** Records y of x [sources, width] as [rows, columns * width]: consecutive `columns` results side by side. */
  apply(plan: Plan, x: Tensor, columns = 1): Tensor {
    const { lists: { length }, scale, sources } = this.rows;
    const { width } = x;
    if (x.rows !== sources) {
      throw new RangeError(`Cannot sum rows of "${x.name}" [${x.shape}]: ${sources} are expected`);
    }
    const y = plan.transient("rows", [length / columns, columns * width], x.dtype, [x]);
    const launch = ({ starts, entries }: PackedLists, from: Tensor, into: Tensor, accumulate: boolean) => {
      const shape = { rows: into.size / width, width, scale, accumulate };
      plan.launch(sumRows(x.dtype, shape), [starts, entries, from, into], [into]);
    };
    launch(this.#forward, x, y, false);
    return plan.differentiable(
      y,
      (g) => plan.contribute(x, (dx, accumulate) => launch(this.#backward, g, dx, accumulate)),
    );
  }
}

function upload(session: Session, lists: readonly (readonly number[])[]): PackedLists {
  const starts = new Uint32Array(Math.ceil((lists.length + 1) / 4) * 4);
  lists.forEach(({ length }, i) => starts[i + 1] = starts[i]! + length);
  const entries = new Uint32Array(Math.max(4, Math.ceil(starts[lists.length]! / 4) * 4));
  let at = 0;
  for (const list of lists) for (const j of list) entries[at++] = j;
  const make = (name: string, values: Uint32Array<ArrayBuffer>) => {
    const tensor = new Tensor(name, [values.length], "u32", { resident: true });
    session.write(tensor, values);
    return tensor;
  };
  return { starts: make("starts", starts), entries: make("entries", entries) };
}
