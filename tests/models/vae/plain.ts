/**
 * The autoencoder written down once more: float64, one loop per formula, channels first, a single chunk of frames. Slow,
 * and of nothing that the project computes with.
 */
import type { TensorSource } from "../../../lib/io/safetensors/safetensors.ts";
import { changesTime, type VaeConfig } from "../../../lib/models/vae/config.ts";
import type { Volume } from "../../../lib/models/vae/volume.ts";

/** Numbers [channels, frames, height, width]. */
interface Video {
  readonly data: Float64Array;
  readonly shape: readonly [number, number, number, number];
}

function make(
  shape: Video["shape"],
  value: (c: number, t: number, y: number, x: number) => number,
): Video {
  const [channels, frames, height, width] = shape;
  const data = new Float64Array(channels * frames * height * width);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let t = 0; t < frames; t++) {
      for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data[at++] = value(c, t, y, x);
    }
  }
  return { data, shape };
}

function at({ data, shape: [, frames, height, width] }: Video, c: number, t: number, y: number, x: number): number {
  return data[((c * frames + t) * height + y) * width + x]!;
}

/** One half of one autoencoder. */
class Plain {
  constructor(readonly config: VaeConfig, readonly source: TensorSource) {}

  /** Stride 1: the window [kt, kh, kw] ends at the frame, whose predecessors are copies of frame 0; zeros around. */
  conv(x: Video, name: string): Video {
    const [outputs, inputs, ...window] = this.source.tensors.get(`${name}.weight`)!.shape as [
      number,
      number,
      ...number[],
    ];
    const [kt, kh, kw] = (window.length === 3 ? window : [1, ...window]) as [number, number, number];
    const weight = this.source.readF32(`${name}.weight`);
    const bias = this.source.readF32(`${name}.bias`);
    const [, frames, height, width] = x.shape;
    return make([outputs, frames, height, width], (o, t, y, column) => {
      let sum = bias[o]!;
      for (let i = 0; i < inputs; i++) {
        for (let dt = 0; dt < kt; dt++) {
          for (let dy = 0; dy < kh; dy++) {
            for (let dx = 0; dx < kw; dx++) {
              const [row, place] = [y + dy - (kh - 1) / 2, column + dx - (kw - 1) / 2];
              if (row < 0 || place < 0 || row >= height || place >= width) continue;
              const factor = weight[((((o * inputs) + i) * kt + dt) * kh + dy) * kw + dx]!;
              sum += factor * at(x, i, Math.max(0, t + dt - kt + 1), row, place);
            }
          }
        }
      }
      return sum;
    });
  }

  groupNorm(x: Video, name: string): Video {
    const [channels, ...rest] = x.shape;
    const size = channels / this.config.norm_num_groups * rest.reduce((a, b) => a * b, 1);
    const weight = this.source.readF32(`${name}.weight`);
    const bias = this.source.readF32(`${name}.bias`);
    const perChannel = x.data.length / channels;
    const data = x.data.slice();
    for (let from = 0; from < data.length; from += size) {
      const group = x.data.subarray(from, from + size);
      const mean = group.reduce((sum, value) => sum + value, 0) / size;
      const variance = group.reduce((sum, value) => sum + (value - mean) ** 2, 0) / size;
      group.forEach((value, i) => {
        const c = Math.floor((from + i) / perChannel);
        data[from + i] = (value - mean) / Math.sqrt(variance + this.config.norm_eps) * weight[c]! + bias[c]!;
      });
    }
    return { data, shape: x.shape };
  }

  /** Norm and SiLU; a spatial norm is modulated by the latent, brought to the size of x by its nearest value. */
  norm(x: Video, name: string, latent: Video | undefined): Video {
    let h: Video;
    if (latent === undefined) h = this.groupNorm(x, name);
    else {
      const [, frames, height, width] = x.shape;
      const [, t, rows, columns] = latent.shape;
      const isOdd = frames > 1 && frames % 2 === 1;
      const frameOf = (frame: number) =>
        !isOdd
          ? Math.floor(frame * t / frames)
          : frame === 0
          ? 0
          : 1 + Math.floor((frame - 1) * (t - 1) / (frames - 1));
      const resized = make([latent.shape[0], frames, height, width], (c, frame, y, column) => {
        return at(latent, c, frameOf(frame), Math.floor(y * rows / height), Math.floor(column * columns / width));
      });
      const [factor, summand] = [this.conv(resized, `${name}.conv_y.conv`), this.conv(resized, `${name}.conv_b.conv`)];
      const normed = this.groupNorm(x, `${name}.norm_layer`);
      h = { ...normed, data: normed.data.map((value, i) => value * factor.data[i]! + summand.data[i]!) };
    }
    return { ...h, data: h.data.map((value) => value / (1 + Math.exp(-value))) };
  }

  resnet(x: Video, name: string, latent: Video | undefined): Video {
    let h = this.conv(this.norm(x, `${name}.norm1`, latent), `${name}.conv1.conv`);
    h = this.conv(this.norm(h, `${name}.norm2`, latent), `${name}.conv2.conv`);
    const shortcut = `${name}.conv_shortcut`;
    const residual = this.source.tensors.has(`${shortcut}.weight`) ? this.conv(x, shortcut) : x;
    return { ...h, data: h.data.map((value, i) => value + residual.data[i]!) };
  }

  /** Means of pairs of frames, the first of an odd number kept, then every second row and column of a convolution. */
  downsample(x: Video, name: string, time: boolean): Video {
    const [channels, frames, height, width] = x.shape;
    const first = frames % 2;
    const halved = !time || frames === 1
      ? x
      : make([channels, first + (frames - first) / 2, height, width], (c, t, y, x0) => {
        if (t < first) return at(x, c, 0, y, x0);
        const from = first + 2 * (t - first);
        return (at(x, c, from, y, x0) + at(x, c, from + 1, y, x0)) / 2;
      });
    // Zeros below and right instead of all around: the window of the result (y, x) is centred on (2 y + 1, 2 x + 1).
    const whole = this.conv(halved, name);
    const [outputs, t] = whole.shape;
    return make(
      [outputs, t, height / 2, width / 2],
      (c, frame, y, column) => at(whole, c, frame, 2 * y + 1, 2 * column + 1),
    );
  }

  /** Every pixel four times and, with `time`, every frame twice but the first of an odd number; then a convolution. */
  upsample(x: Video, name: string, time: boolean): Video {
    const [channels, frames, height, width] = x.shape;
    const doubles = time && frames > 1;
    const odd = doubles ? frames % 2 : 0;
    const larger = make([channels, doubles ? 2 * frames - odd : frames, 2 * height, 2 * width], (c, t, y, column) => {
      return at(x, c, doubles ? (t + odd) >> 1 : t, y >> 1, column >> 1);
    });
    return this.conv(larger, name);
  }

  encode(video: Video): Video {
    const { block_out_channels: widths, layers_per_block } = this.config;
    let h = this.conv(video, "encoder.conv_in.conv");
    widths.forEach((_, i) => {
      const block = `encoder.down_blocks.${i}`;
      for (let j = 0; j < layers_per_block; j++) h = this.resnet(h, `${block}.resnets.${j}`, undefined);
      if (i < widths.length - 1) h = this.downsample(h, `${block}.downsamplers.0.conv`, changesTime(this.config, i));
    });
    for (const j of [0, 1]) h = this.resnet(h, `encoder.mid_block.resnets.${j}`, undefined);
    return this.conv(this.norm(h, "encoder.norm_out", undefined), "encoder.conv_out.conv");
  }

  decode(latent: Video): Video {
    const { block_out_channels: widths, layers_per_block } = this.config;
    let h = this.conv(latent, "decoder.conv_in.conv");
    for (const j of [0, 1]) h = this.resnet(h, `decoder.mid_block.resnets.${j}`, latent);
    widths.forEach((_, i) => {
      const block = `decoder.up_blocks.${i}`;
      for (let j = 0; j <= layers_per_block; j++) h = this.resnet(h, `${block}.resnets.${j}`, latent);
      if (i < widths.length - 1) h = this.upsample(h, `${block}.upsamplers.0.conv`, changesTime(this.config, i));
    });
    return this.conv(this.norm(h, "decoder.norm_out", latent), "decoder.conv_out.conv");
  }
}

function rounded({ data, shape }: Video): Volume {
  return { data: Float32Array.from(data), shape };
}

/** Moments [2 * latent channels, ...] of a video of one chunk (at most 9 frames). */
export function plainEncode(config: VaeConfig, source: TensorSource, { data, shape }: Volume): Volume {
  return rounded(new Plain(config, source).encode({ data: Float64Array.from(data), shape }));
}

/** The video of latents of one chunk (at most 3 frames). */
export function plainDecode(config: VaeConfig, source: TensorSource, { data, shape }: Volume): Volume {
  return rounded(new Plain(config, source).decode({ data: Float64Array.from(data), shape }));
}
