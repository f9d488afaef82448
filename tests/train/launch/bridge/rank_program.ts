/** A rank that trains nothing. */
import { runRank } from "../../../../lib/train/launch/ranks.ts";
import { fakeTrain } from "./messages.ts";

await runRank((config, _, options) => fakeTrain(config, options));
