/** A rank that trains nothing. */
import { runRank } from "../../../../lib/train/launch/ranks.ts";
import { fakeEnd, SENT } from "./messages.ts";

await runRank(async function* (config, communicator, options) {
  yield* SENT;
  // When one ends the others have two seconds: none ends before the first has told all events.
  await communicator.barrier();
  await fakeEnd(config, options ?? {});
});
