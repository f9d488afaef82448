/**
 * What an update stores is looked at where it is stored, for it may stay unseen: a second moment of infinity stops its
 * weight for good, and a checkpoint would keep it. A pass of its own over weights and moments would read 12 bytes a
 * weight again, beside the 28 that an update of AdamW moves; here they are in registers. AdamW on 4 million weights
 * took 38.5 ms of a core with it and 39.0 ms without (llvmpipe, the best of 24 each).
 */
import { NON_FINITE } from "../core/wgsl.ts";

/**
 * `watch(v, control)` sets the last value of the buffer `control` to 1 when a component of `v` is NaN or infinite.
 * Every thread that stores there stores the same, so their order does not matter.
 */
export const WATCH = `${NON_FINITE}
fn watch(v: vec4f, control: vec4f) {
  if (non_finite(v)) { store_control(0u, vec4f(control.xyz, 1)); }
}`;
