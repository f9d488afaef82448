/** Calls that Open MPI would answer with a hang or with mixed-up data. */
import assert from "node:assert/strict";
import { fromFileUrl } from "../../paths.ts";
import { hasMpi, mpirun } from "./mpirun.ts";

Deno.test({
  name: "MPI: wrong calls are refused by every rank, and right ones go on after them",
  ignore: !hasMpi,
  async fn() {
    const { text } = await mpirun(2, fromFileUrl("misuse_program.ts", import.meta.url));
    for (let rank = 0; rank < 2; rank++) {
      const says = (what: string, answer: RegExp) =>
        assert.match(text, new RegExp(`^rank ${rank}, ${what}: ${answer.source}`, "m"));
      for (const value of [-1, 0.5, 2 ** 31]) says(`agree on ${value}`, /RangeError .*expected an integer from 0 to/);
      says("a second exchange", /Error Cannot start barrier: the previous exchange was not awaited/);
      says("its share of a sum", /nothing/);
      says("another exchange", /Error Ranks must make the same calls: rank \d is in (barrier|allReduce)/);
    }
  },
});
