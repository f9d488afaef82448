/** 20,000 steps of the tiny model grow nothing. */
import { LONG_FOLDER, longRun } from "./long_run.ts";

Deno.test({
  name: "memory, open files, GPU bytes and files stay flat over 20,000 steps (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  // deno-lint-ignore no-console
  fn: () => longRun(20_000, LONG_FOLDER, console.log),
});
