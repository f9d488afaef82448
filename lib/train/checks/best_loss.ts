/** What follows from the held-out losses of a run: the best of them, and whether it is time to stop. */

/** Held-out loss after a step. */
export interface MeasuredLoss {
  readonly step: number;
  readonly loss: number;
}

/** The lowest finite loss, the first of equals; undefined when there is none. */
export function bestOf(measured: readonly MeasuredLoss[]): MeasuredLoss | undefined {
  return measured.filter(({ loss }) => Number.isFinite(loss))
    .reduce<MeasuredLoss | undefined>(
      (best, one) => best === undefined || one.loss < best.loss ? one : best,
      undefined,
    );
}

/** Whether the last `patience` measurements were all no better than one before them. */
export function isStale(measured: readonly MeasuredLoss[], patience: number): boolean {
  const best = bestOf(measured);
  const since = best === undefined ? measured.length : measured.length - 1 - measured.indexOf(best);
  return since >= patience;
}
