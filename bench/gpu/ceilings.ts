/** Stage `peaks`: f32 multiply-adds in registers and copies of memory, which shares in the report are of. */
import { Bench } from "../harness.ts";
import { measurePeaks } from "../peaks.ts";
import { rounded } from "./results.ts";
import { attempt, isSmall } from "./stage.ts";

await attempt("f32 multiply-adds and copy", {}, async () => {
  using bench = await Bench.open();
  const { flops, bytes } = await measurePeaks(bench, isSmall ? 2 : 7);
  return {
    device: bench.device.adapter.description,
    clock: bench.device.timestamps ? "timestamps of the GPU" : "host",
    tflops: rounded(flops.wall / 1000),
    gb_s: rounded(bytes.wall),
  };
});
Deno.exit(0);
