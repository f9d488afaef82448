/** 500 ends of real programs, five kinds of a hundred each. */
import { cleanEnds, kinds } from "./clean_ends.ts";

Deno.test({
  name: "500 programs end as they should, none by a signal (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  // deno-lint-ignore no-console
  fn: () => cleanEnds(100, Object.keys(kinds), console.log),
});
