/**
 * Shape of the video autoencoder (AutoencoderKLCogVideoX), read from `vae/config.json`, and the layers it consists of.
 */
import { UserErrors } from "../../errors.ts";
import { LIMITS_HINT, numberProblem } from "../tensors/config_values.ts";

/** The fields that change the computation; absent keys take the values of the released models. */
export interface VaeConfig {
  readonly in_channels: number;
  readonly out_channels: number;
  readonly latent_channels: number;
  readonly block_out_channels: readonly number[];
  readonly layers_per_block: number;
  readonly norm_eps: number;
  readonly norm_num_groups: number;
  readonly temporal_compression_ratio: number;
  /** Pixels the default tiles are half of. */
  readonly sample_height: number;
  readonly sample_width: number;
  readonly scaling_factor: number;
  /** The image condition of sampling is divided by the scaling factor instead of multiplied. */
  readonly invert_scale_latents: boolean;
}

/** The autoencoder of CogVideoX 2B; the other releases differ in `scaling_factor` (0.7) and `invert_scale_latents`. */
export const RELEASED_VAE: VaeConfig = {
  in_channels: 3,
  out_channels: 3,
  latent_channels: 16,
  block_out_channels: [128, 256, 256, 512],
  layers_per_block: 3,
  norm_eps: 1e-6,
  norm_num_groups: 32,
  temporal_compression_ratio: 4,
  sample_height: 480,
  sample_width: 720,
  scaling_factor: 1.15258426,
  invert_scale_latents: false,
};

/** Values every released model shares and the layers below rely on. */
const FIXED: Readonly<Record<string, unknown>> = { act_fn: "silu", use_quant_conv: false, use_post_quant_conv: false };

/**
 * Reads the parsed JSON of a config file.
 *
 * @throws {UserErrors} listing every value this project cannot compute with.
 */
export function parseVaeConfig(json: Readonly<Record<string, unknown>>, file: string): VaeConfig {
  const problems: string[] = [];
  if (json._class_name !== undefined && json._class_name !== "AutoencoderKLCogVideoX") {
    problems.push(`_class_name is "${json._class_name}": expected "AutoencoderKLCogVideoX"`);
  }
  for (const [key, expected] of Object.entries(FIXED)) {
    if (key in json && json[key] !== expected) {
      problems.push(`${key} is ${JSON.stringify(json[key])}: cogtune computes ${expected} only`);
    }
  }
  const config: Record<string, unknown> = { ...RELEASED_VAE };
  for (const [key, fallback] of Object.entries(RELEASED_VAE)) {
    const value = json[key];
    if (value === undefined) continue;
    const list = Array.isArray(fallback);
    const fits = list ? Array.isArray(value) && value.every(Number.isInteger) : typeof value === typeof fallback;
    if (fits) {
      config[key] = value;
      for (const number of [value].flat()) {
        const problem = typeof number === "number" ? numberProblem(key, number) : undefined;
        if (problem !== undefined) problems.push(problem);
      }
    } else {
      problems.push(
        `${key} is ${JSON.stringify(value)}: expected ${list ? "a list of numbers" : `a ${typeof fallback}`}`,
      );
    }
  }
  const parsed = config as unknown as VaeConfig;
  problems.push(...channelProblems(parsed));
  if (problems.length > 0) {
    throw new UserErrors(`Cannot use ${file}`, problems, LIMITS_HINT);
  }
  return parsed;
}

function channelProblems({ block_out_channels, norm_num_groups }: VaeConfig): string[] {
  return block_out_channels.filter((channels) => channels % norm_num_groups !== 0).map((channels) => {
    return `block_out_channels holds ${channels}: expected a multiple of norm_num_groups, ${norm_num_groups}`;
  });
}

/** How many times the autoencoder halves height and width: one per block but the last. */
export function spatialCompression({ block_out_channels }: VaeConfig): number {
  return 2 ** (block_out_channels.length - 1);
}

/** Whether down or up block `i` also changes the frame rate. */
export function changesTime({ temporal_compression_ratio }: VaeConfig, i: number): boolean {
  return i < Math.log2(temporal_compression_ratio);
}

/** The two halves, which are loaded and run independently. */
export type VaePart = "encoder" | "decoder";

/** A convolution: checkpoint tensors `<name>.weight` (as `stored`) and `<name>.bias`. */
export interface ConvLayer {
  readonly kind: "conv";
  readonly name: string;
  /** [out, in, kt, kh, kw], or [out, in, kh, kw] for the per-frame ones. */
  readonly stored: readonly number[];
}

/**
 * A group norm with `<name>.weight` and `.bias`; a spatial one has them under `norm_layer`, and `conv_y` and `conv_b`.
 */
export interface NormLayer {
  readonly kind: "norm" | "spatial norm";
  readonly name: string;
  readonly channels: number;
}

/** One parametrised layer. */
export type VaeLayer = ConvLayer | NormLayer;

/** The layers of one half in model order, by the names of the checkpoint. */
export function vaeLayers(config: VaeConfig, part: VaePart): VaeLayer[] {
  const { block_out_channels: widths, layers_per_block, latent_channels } = config;
  const layers: VaeLayer[] = [];
  const normKind = part === "encoder" ? "norm" : "spatial norm";
  const conv = (name: string, ...stored: number[]) => layers.push({ kind: "conv", name, stored });
  const norm = (name: string, channels: number) => layers.push({ kind: normKind, name, channels });
  const resnet = (name: string, from: number, to: number) => {
    norm(`${name}.norm1`, from);
    conv(`${name}.conv1.conv`, to, from, 3, 3, 3);
    norm(`${name}.norm2`, to);
    conv(`${name}.conv2.conv`, to, to, 3, 3, 3);
    if (from !== to) conv(`${name}.conv_shortcut`, to, from, 1, 1, 1);
  };
  const blocks = part === "encoder" ? widths : widths.toReversed();
  const middle = widths[widths.length - 1]!;
  const mid = () => [0, 1].forEach((j) => resnet(`${part}.mid_block.resnets.${j}`, middle, middle));
  let from = blocks[0]!;
  conv(`${part}.conv_in.conv`, from, part === "encoder" ? config.in_channels : latent_channels, 3, 3, 3);
  if (part === "decoder") mid();
  blocks.forEach((to, i) => {
    const block = `${part}.${part === "encoder" ? "down" : "up"}_blocks.${i}`;
    const count = layers_per_block + (part === "encoder" ? 0 : 1);
    for (let j = 0; j < count; j++) resnet(`${block}.resnets.${j}`, j === 0 ? from : to, to);
    const sampler = `${block}.${part === "encoder" ? "down" : "up"}samplers.0.conv`;
    if (i < blocks.length - 1) conv(sampler, to, to, 3, 3);
    from = to;
  });
  if (part === "encoder") mid();
  norm(`${part}.norm_out`, from);
  conv(`${part}.conv_out.conv`, part === "encoder" ? 2 * latent_channels : config.out_channels, from, 3, 3, 3);
  return layers;
}

/** Checkpoint name and stored shape of every tensor of a layer. */
export function layerShapes(layer: VaeLayer, { latent_channels }: VaeConfig): [string, readonly number[]][] {
  const { name } = layer;
  if (layer.kind === "conv") return [[`${name}.weight`, layer.stored], [`${name}.bias`, [layer.stored[0]!]]];
  const { channels } = layer;
  const affine = layer.kind === "norm" ? name : `${name}.norm_layer`;
  const shapes: [string, readonly number[]][] = [[`${affine}.weight`, [channels]], [`${affine}.bias`, [channels]]];
  if (layer.kind === "spatial norm") {
    for (const conv of ["conv_y", "conv_b"]) {
      shapes.push([`${name}.${conv}.conv.weight`, [channels, latent_channels, 1, 1, 1]]);
      shapes.push([`${name}.${conv}.conv.bias`, [channels]]);
    }
  }
  return shapes;
}

/** Name and shape of every tensor of `diffusion_pytorch_model.safetensors`. */
export function vaeParameterShapes(config: VaeConfig): Map<string, readonly number[]> {
  const layers = [...vaeLayers(config, "encoder"), ...vaeLayers(config, "decoder")];
  return new Map(layers.flatMap((layer) => layerShapes(layer, config)));
}
