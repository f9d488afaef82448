/** Dynamic loss scaling for fp16 (arXiv:1710.03740), with the constants of PyTorch's gradient scaler. */

const INITIAL = 65536;
const GROWTH_INTERVAL = 2000;

/** Keeps gradients inside the range of f16: halves on overflow, doubles after many good steps. */
export class LossScale {
  /** Factor on the loss. */
  value: number;
  /** Good steps since the last change. */
  goodSteps: number;

  constructor(readonly enabled: boolean, state: { readonly value: number; readonly goodSteps: number } | undefined) {
    this.value = enabled ? state?.value ?? INITIAL : 1;
    this.goodSteps = state?.goodSteps ?? 0;
  }

  /** True when an overflow is the expected sign of a scale that is too large rather than of a broken run. */
  get canShrink(): boolean {
    return this.enabled && this.value > 1;
  }

  /** Takes note of a step's outcome. */
  update(skipped: boolean): void {
    if (!this.enabled) return;
    if (skipped) {
      this.value = Math.max(1, this.value / 2);
      this.goodSteps = 0;
    } else if (++this.goodSteps === GROWTH_INTERVAL) {
      this.value *= 2;
      this.goodSteps = 0;
    }
  }
}
