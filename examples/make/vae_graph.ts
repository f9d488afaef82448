/**
 * The autoencoder of `lib/models/vae` once more, as a plan that goes backward: the library's own is forward only, since fine-tuning
 * leaves it frozen. One clip is one chunk; convolutions are products of gathered windows. Norms have one group, scale 1 and shift
 * 0, and the decoder's are not modulated by the latent.
 */
import type { Session } from "../../lib/gpu/session.ts";
import { changesTime, type VaeConfig } from "../../lib/models/vae/config.ts";
import { addGradient, addTensors } from "../../lib/ops/add.ts";
import { layerNorm } from "../../lib/ops/layer_norm.ts";
import { linear, type LinearWeights } from "../../lib/ops/linear.ts";
import { silu } from "../../lib/ops/activation.ts";
import type { Plan } from "../../lib/plan/plan.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { SparseRows } from "./sparse_rows.ts";
import { causalWindows, downWindows, type Gathering, type Grid, halvedFrames, upWindows } from "./vae_rows.ts";

/** A video [frames * height * width, channels] inside a plan. */
interface Video {
  readonly x: Tensor;
  readonly grid: Grid;
}

interface Gathered {
  readonly rows: SparseRows;
  readonly taps: number;
  readonly grid: Grid;
}

/** The same values under another shape, with their gradient. */
export function view(plan: Plan, x: Tensor, shape: readonly number[]): Tensor {
  const y = x.window(x.name, 0, shape, { needsGrad: x.needsGrad });
  return plan.differentiable(y, (g) => plan.passOn(x, g.reshape(x.shape), addGradient(plan)));
}

/** Records encoder and decoder for clips of one size. */
export class VaeGraph {
  readonly #gathered = new Map<string, Gathered>();
  readonly #constants = new Map<string, Tensor>();

  /** @param weights of a convolution by its checkpoint name, [out, taps * in] and [out]; undefined for one that does not train. */
  constructor(
    readonly session: Session,
    readonly plan: Plan,
    readonly config: VaeConfig,
    readonly weights: (name: string) => LinearWeights | undefined,
  ) {}

  /** Rows of `video` brought together; layers of one kind and size share their lists. */
  #gather({ x, grid }: Video, kind: string, gathering: (grid: Grid) => Gathering): Video {
    const key = `${kind} ${grid}`;
    let found = this.#gathered.get(key);
    if (found === undefined) {
      const { grid: output, taps, ...lists } = gathering(grid);
      found = { rows: new SparseRows(this.session, lists), taps, grid: output };
      this.#gathered.set(key, found);
    }
    return { x: found.rows.apply(this.plan, x, found.taps), grid: found.grid };
  }

  #conv(video: Video, name: string, kind: string, gathering: (grid: Grid) => Gathering): Video {
    const { x, grid } = this.#gather(video, kind, gathering);
    return { x: linear(this.plan, x, this.weights(name)!), grid };
  }

  #constant(value: number, size: number): Tensor {
    const key = `${value} ${size}`;
    let tensor = this.#constants.get(key);
    if (tensor === undefined) {
      tensor = new Tensor(key, [size], "f32", { resident: true });
      this.session.write(tensor, new Float32Array(size).fill(value));
      this.#constants.set(key, tensor);
    }
    return tensor;
  }

  /** Norm over all positions and channels, SiLU, causal convolution. */
  #normConv({ x, grid }: Video, name: string): Video {
    const { plan } = this;
    const flat = view(plan, x, [1, x.size]);
    const affine = { gamma: this.#constant(1, x.size), beta: this.#constant(0, x.size) };
    const normed = silu(plan, layerNorm(plan, flat, affine, { sequence: 1, textRows: 0 }, this.config.norm_eps));
    return this.#conv({ x: view(plan, normed, x.shape), grid }, name, "causal", causalWindows);
  }

  #resnet(video: Video, name: string): Video {
    const { plan } = this;
    const shortcut = this.weights(`${name}.conv_shortcut`);
    const residual = shortcut === undefined ? video.x : linear(plan, video.x, shortcut);
    if (this.weights(`${name}.conv1.conv`) === undefined) return { x: residual, grid: video.grid };
    const h = this.#normConv(this.#normConv(video, `${name}.conv1.conv`), `${name}.conv2.conv`);
    return { x: addTensors(plan, residual, h.x), grid: video.grid };
  }

  /** Latents [rows, 16] of pixels [rows, 4]. */
  encode(pixels: Video): Video {
    const { block_out_channels: widths, layers_per_block } = this.config;
    let h = this.#conv(pixels, "encoder.conv_in.conv", "causal", causalWindows);
    widths.forEach((_, i) => {
      const block = `encoder.down_blocks.${i}`;
      for (let j = 0; j < layers_per_block; j++) h = this.#resnet(h, `${block}.resnets.${j}`);
      if (i === widths.length - 1) return;
      if (changesTime(this.config, i)) h = this.#gather(h, "halves", halvedFrames);
      h = this.#conv(h, `${block}.downsamplers.0.conv`, "down", downWindows);
    });
    for (const j of [0, 1]) h = this.#resnet(h, `encoder.mid_block.resnets.${j}`);
    return this.#normConv(h, "encoder.conv_out.conv");
  }

  /** Pixels [rows, 4] of latents [rows, 16]. */
  decode(latents: Video): Video {
    const { block_out_channels: widths, layers_per_block } = this.config;
    let h = this.#conv(latents, "decoder.conv_in.conv", "causal", causalWindows);
    for (const j of [0, 1]) h = this.#resnet(h, `decoder.mid_block.resnets.${j}`);
    widths.forEach((_, i) => {
      const block = `decoder.up_blocks.${i}`;
      for (let j = 0; j <= layers_per_block; j++) h = this.#resnet(h, `${block}.resnets.${j}`);
      if (i === widths.length - 1) return;
      const time = changesTime(this.config, i);
      h = this.#conv(h, `${block}.upsamplers.0.conv`, `up ${time}`, (grid) => upWindows(grid, time));
    });
    return this.#normConv(h, "decoder.conv_out.conv");
  }
}
