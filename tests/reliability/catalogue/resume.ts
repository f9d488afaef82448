/** Faults of a run that continues another one. */
import type { Fault } from "./catalogue.ts";

const FOUND =
  "tests/train/checkpoint/find_test.ts > a checkpoint to continue from is found whole, or is missed by name";
const RANKS = "tests/train/launch/ranks_test.ts";
const FIXED = "tests/config/config_test.ts > requireResumable() refuses what the saved state cannot follow";
const NAMED = "tests/config/edge_values_test.ts > a continued run names every setting that was changed";
const OUTPUT = "tests/train/checkpoint/resume_test.ts > refused from the beginning, continued after the last, finished";

/** Resuming (RS). */
export const resume: readonly Fault[] = [
  {
    id: "RS1",
    fault: "a checkpoint that is not there",
    tests: [
      FOUND,
      "tests/train/trainer_test.ts > mistakes are found before any weight is loaded and leave nothing behind",
    ],
  },
  { id: "RS2", fault: "`latest` where nothing was saved", tests: [FOUND] },
  {
    id: "RS3",
    fault: "another number of ranks",
    tests: [`${RANKS} > a run continues with another number of ranks: 1, 2, 4 and 1 give the bits of one`],
  },
  {
    id: "RS4",
    fault: "the same batch in other portions",
    tests: [
      `${RANKS} > canonical sums give 1, 2 and 4 ranks the same bits`,
      `${RANKS} > a run continues with another number of ranks: 1, 2, 4 and 1 give the bits of one`,
    ],
  },
  {
    id: "RS5",
    fault: "another batch, or other clips under the same names",
    tests: [NAMED, "tests/train/checkpoint/inputs_test.ts > clips, prompts and encoders that have changed since"],
  },
  {
    id: "RS6",
    fault: "the middle of an epoch or of a step, the end of both, and the end of the run",
    tests: [
      "tests/train/faults/kill_test.ts > killed anywhere and continued, a run ends with the same bits",
      "tests/train/trainer_test.ts > a resumed run equals an uninterrupted one, bit for bit",
      "tests/data/random/sampler_test.ts > so any resume continues exactly",
      OUTPUT,
    ],
  },
  { id: "RS7", fault: "adapters of another rank or other layers, or all weights instead", tests: [FIXED, NAMED] },
  {
    id: "RS8",
    fault: "another optimizer or schedule",
    tests: [
      FIXED,
      NAMED,
      "tests/train/checkpoint/find_test.ts > state of other tensors is refused with every difference",
    ],
  },
  {
    id: "RS9",
    fault: "the newest checkpoint is damaged",
    tests: [FOUND, "tests/train/checkpoint/resume_test.ts > latest passes over a damaged checkpoint and says so"],
  },
  { id: "RS10", fault: "the same continuation twice", tests: [OUTPUT] },
  {
    id: "RS11",
    fault: "other settings of memory, or other shards",
    tests: [
      "tests/train/checkpoint/other_memory_test.ts > a run whose memory settings change with every continuation",
      `${RANKS} > a sharded run continues on one rank and the other way round`,
    ],
  },
  {
    id: "RS12",
    fault: "another base model under the same name",
    tests: ["tests/train/checkpoint/inputs_test.ts > adapters go on with the weights they were trained on alone"],
  },
];
