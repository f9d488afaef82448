/** Convolutions: every way to compute them, and which of them runs where nothing was measured. */
import type { Target, Work } from "../core/kernel.ts";
import { type Family, solve, type Variant } from "../core/variants.ts";
import { convRegister, type ConvTile } from "./conv_register.ts";
import { convStaged } from "./conv_staged.ts";
import { convUnits } from "./conv_units.ts";
import { STAGED_TILES, stagedName, stagedRuns, type StagedTile } from "./gemm_staged.ts";
import { checkConv, type ConvShape, type ConvSpec, positionsOf } from "./conv_shape.ts";
import { UNIT_SIZES, unitName, type UnitSize, unitTile } from "./unit_tile.ts";

type ConvVariant = Variant<ConvSpec, ConvShape>;

function register(name: string, applies: (subgroups: number) => boolean, tile: ConvTile): ConvVariant {
  return {
    name,
    applies: ({ subgroups }) => applies(subgroups),
    work: (_, spec, shape) => ({ launches: [{ launch: convRegister(spec, shape, tile), writes: ["y"] }] }),
  };
}

function units(name: string, size: UnitSize): ConvVariant {
  return {
    name,
    applies: (target) => unitTile(target, size) !== undefined,
    work: (target, spec, shape) => ({
      launches: [{ launch: convUnits(spec, shape, unitTile(target, size)!), writes: ["y"] }],
    }),
  };
}

function staged(name: string, tile: StagedTile): ConvVariant {
  return {
    name,
    applies: (target) => stagedRuns(target, tile),
    work: (_, spec, shape) => ({ launches: [{ launch: convStaged(spec, shape, tile), writes: ["y"] }] }),
  };
}

/** Without sharing, 8 rows balance loads against registers. */
const PLAIN: ConvTile = { rows: 8, vectors: 1, lanes: 1, share: "none", threads: 64 };

/**
 * On 8 lanes a value is handed round with a constant-lane broadcast, free on llvmpipe, and a workgroup of 8 threads
 * shares its rows whatever size the driver picks; taller tiles gain a tenth there but double the time to compile. From
 * 16 lanes up the shuffle unit is the narrower one, so each shuffled value feeds eight multiply-adds, and 16 lanes
 * cover 128 channels, the smallest width of the released models.
 */
const BROADCAST: ConvTile = { rows: 32, vectors: 1, lanes: 8, share: "broadcast", threads: 8 };
const SHUFFLE: ConvTile = { rows: 16, vectors: 2, lanes: 16, share: "shuffle", threads: 64 };

const variants: readonly ConvVariant[] = [
  register("plain", () => true, PLAIN),
  register("broadcast 32", (subgroups) => subgroups > 0 && subgroups < 16, BROADCAST),
  register("shuffle 16", (subgroups) => subgroups >= 16, SHUFFLE),
  ...STAGED_TILES.map(({ name, tile }) => staged(name, tile)),
  ...UNIT_SIZES.map(({ name, size }) => units(name, size)),
];

/** Outputs below which most columns of a tile are padding: only the last convolution of the decoder has fewer, 3. */
const FEW_OUTPUTS = 16;

/** Below a quarter of a tile's width, sharing rows wastes more lanes than it saves loads. */
function prefer(target: Target, _: ConvSpec, shape: ConvShape): string {
  const { subgroups } = target;
  const { outputs } = shape;
  const onUnits = unitName(target, { m: positionsOf(shape), n: outputs });
  if (onUnits !== undefined && outputs >= FEW_OUTPUTS) return onUnits;
  if (subgroups === 0) return "plain";
  if (subgroups >= 16) {
    const name = stagedName(target, { m: positionsOf(shape), n: outputs });
    return outputs < FEW_OUTPUTS ? "plain" : name ?? "shuffle 16";
  }
  return outputs < BROADCAST.lanes * BROADCAST.vectors ? "plain" : "broadcast 32";
}

/** Every way to convolve. */
export const convFamily: Family<ConvSpec, ConvShape> = {
  name: "conv",
  variants,
  prefer,
  twin: "plain",
  traits: (spec, { window, ...sizes }) => ({ ...spec, ...sizes, window: window.join("x") }),
  operands(spec, shape) {
    const { channels, outputs, frames, inputHeight, inputWidth, timeShift, window: [kt, kh, kw] } = shape;
    const y = positionsOf(shape) * outputs;
    const read = ((frames - 1 + shape.timeOffset) >> timeShift) + kt;
    return {
      x: read * inputHeight * inputWidth * channels,
      weight: (shape.weightFrame + kt) * kh * kw * channels * outputs,
      ...(spec.bias ? { bias: outputs } : {}),
      ...(spec.residual ? { residual: y } : {}),
      y,
    };
  },
  // Rows of the input below the probe's are padding to it.
  probe: ({ frames, height, width, ...rest }) => ({
    ...rest,
    frames: Math.min(frames, 2),
    height: Math.min(height, 9),
    width,
  }),
};

/**
 * One convolution. Operands: x [frames, inputHeight, inputWidth, channels] (enough frames for the window of the last
 * output frame), weight [kt, kh, kw, channels, outputs], bias [outputs] f32, residual and y [frames, height, width,
 * outputs].
 *
 * @throws {RangeError} as {@linkcode checkConv}.
 */
export function convolution(target: Target, spec: ConvSpec, shape: ConvShape): Work {
  checkConv(shape);
  return solve(convFamily, target, spec, shape);
}
