/** 600 ends of real programs, a hundred of each kind. */
import { cleanEnds, kinds } from "./clean_ends.ts";

Deno.test({
  name: "600 programs end as they should, none by a signal (COGTUNE_FULL)",
  ignore: !Deno.env.has("COGTUNE_FULL"),
  // deno-lint-ignore no-console
  fn: () => cleanEnds(100, Object.keys(kinds), console.log),
});
