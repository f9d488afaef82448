/**
 * Stage `peaks`: f32 multiply-adds in registers and copies of memory, which shares in the report are of; beside them matrix units and
 * packed f16 as runs measure them.
 */
import { peaksOf } from "../../lib/tune/peaks.ts";
import { Bench } from "../harness.ts";
import { measurePeaks } from "../peaks.ts";
import { rounded } from "./results.ts";
import { attempt, isSmall } from "./stage.ts";

await attempt("multiply-adds and copy", {}, async () => {
  using bench = await Bench.open();
  const { flops, bytes } = await measurePeaks(bench, isSmall ? 2 : 7);
  const { peaks, problems } = await peaksOf(bench.device, { folder: Deno.makeTempDirSync() });
  const { units, f16 } = peaks?.operations ?? {};
  return {
    device: bench.device.adapter.description,
    clock: bench.device.timestamps ? "timestamps of the GPU" : "host",
    tflops: rounded(flops.wall / 1000),
    gb_s: rounded(bytes.wall),
    ...(units === undefined ? {} : { units_tflops: rounded(units / 1e12) }),
    ...(f16 === undefined ? {} : { f16_tflops: rounded(f16 / 1e12) }),
    ...(problems.length === 0 ? {} : { problems: problems.join("; ") }),
  };
});
Deno.exit(0);
