/** `deno bench -A bench/norm_bench.ts`: norms over rows and groups, by the bytes they have to read and write. */
import { groupNormApply, groupNormParts, PART_POSITIONS } from "../kernels/norm/group.ts";
import { bytesOf, type DType } from "../kernels/core/kernel.ts";
import { rowEntries } from "./entries/rows.ts";
import { randomBytes } from "./harness.ts";
import { benchLaunches, type Entry } from "./suite.ts";

const ROWS = 1024;
/** The widths of CogVideoX 2b and 5b. */
const WIDTHS = [1920, 3072];
const STORAGE = ["f32", "bf16"] as const satisfies readonly DType[];

/** The widest level of the video autoencoder: 128 channels, here of one frame of 120 x 160. */
function groupEntries(dtype: DType): Entry[] {
  const [positions, channels] = [120 * 160, 128];
  const size = positions * channels;
  const parts = Math.ceil(positions / PART_POSITIONS);
  const name = `${dtype} ${positions}x${channels}`;
  return [
    {
      group: "group norm statistics",
      name,
      bytes: size * bytesOf(dtype),
      launch: () => groupNormParts({ dtype }, { positions, channels, firstPart: 0 }),
      contents: () => [randomBytes(size, dtype), 2 * parts * channels],
    },
    {
      group: "group norm and SiLU",
      name,
      bytes: 2 * size * bytesOf(dtype),
      launch: () =>
        groupNormApply({ dtype, silu: true, spatial: false }, {
          positions,
          channels,
          firstPosition: 0,
          outputPosition: 0,
        }),
      contents: () => [randomBytes(size, dtype), randomBytes(2 * channels, "f32"), randomBytes(channels, "f32"), size],
    },
  ];
}

await benchLaunches([
  ...WIDTHS.flatMap((width) => STORAGE.flatMap((dtype) => rowEntries(ROWS, width, dtype))),
  ...STORAGE.flatMap(groupEntries),
]);
