/**
 * Text and video rows into one joint sequence, text first, and the video rows out of it again. Backward is the reverse
 * copy.
 */
import { joinRows as join, splitRows as split } from "../../kernels/rows/join_rows.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import type { Segments } from "./layer_norm.ts";

function refuseSecond(accumulate: boolean, tensor: Tensor): void {
  if (accumulate) {
    throw new Error(`"${tensor.name}" is copied and used otherwise, which the copy's gradient cannot add to`);
  }
}

/** Records [batch, sequence, width] from text [.., width] and video [.., width] rows. */
export function joinRows(plan: Plan, text: Tensor, video: Tensor, batch: number, segments: Segments): Tensor {
  const { sequence, textRows } = segments;
  const width = text.width;
  const shape = { batch, textRows, videoRows: sequence - textRows, width };
  const y = plan.transient("joint", [batch, sequence, width], video.dtype, [text, video]);
  const spec = { text: text.dtype, video: video.dtype, y: y.dtype };
  plan.launch(join(spec, shape), [text, video, y], [y]);
  return plan.differentiable(y, (g) => {
    const record = (dText: Tensor, dVideo: Tensor) => {
      const types = { x: g.dtype, text: dText.dtype, video: dVideo.dtype };
      plan.launch(split(types, shape), [g, dText, dVideo], [dText, dVideo]);
    };
    plan.contribute(video, (dVideo, second) => {
      refuseSecond(second, video);
      if (!text.needsGrad) record(plan.transient("scratch", text.shape, text.dtype), dVideo);
      plan.contribute(text, (dText, again) => {
        refuseSecond(again, text);
        record(dText, dVideo);
      });
    });
    if (!video.needsGrad) {
      plan.contribute(text, (dText) => record(dText, plan.transient("scratch", video.shape, video.dtype)));
    }
  });
}

/** Records the video rows [batch, sequence - textRows, width] of a joint sequence. */
export function videoRows(plan: Plan, x: Tensor, { sequence, textRows }: Segments): Tensor {
  const [batch, , width] = x.shape as [number, number, number];
  const shape = { batch, textRows, videoRows: sequence - textRows, width };
  const video = plan.transient("video", [batch, sequence - textRows, width], x.dtype, [x]);
  plan.launch(split({ x: x.dtype, text: "drop", video: video.dtype }, shape), [x, video], [video]);
  return plan.differentiable(video, (g) => {
    plan.contribute(x, (dx, accumulate) => {
      refuseSecond(accumulate, x);
      plan.launch(join({ text: "zero", video: g.dtype, y: dx.dtype }, shape), [g, dx], [dx]);
    });
  });
}
