/** Faults of processes that train together. */
import type { Fault } from "./catalogue.ts";

const LAUNCHER = "tests/comm/launch/launcher_test.ts";
const INTERRUPTED = "tests/comm/exchange/interrupted_test.ts";
const CHAOS = "tests/train/faults/chaos_test.ts > training that fails at random ends in time";
const RANKS = "tests/train/launch/ranks_test.ts";

/** Ranks, the memory they share and their exchanges (RK). */
export const ranks: readonly Fault[] = [
  {
    id: "RK1",
    fault: "a rank is killed between two steps",
    tests: [
      `${LAUNCHER} > a killed rank is named by all others`,
      `${RANKS} > a rank that is killed is named, and the last checkpoint is whole`,
    ],
  },
  {
    id: "RK2",
    fault: "a rank dies inside a sum of gradients, at any piece of it",
    tests: [`${INTERRUPTED} > whichever piece a rank dies at`, CHAOS],
  },
  {
    id: "RK3",
    fault: "a rank stands still",
    tests: [
      `${LAUNCHER} > a stopped rank is named after its deadline`,
      `${LAUNCHER} > a stopped rank is named within`,
    ],
  },
  {
    id: "RK4",
    fault: "a rank is ten times slower than before",
    tests: [
      `${LAUNCHER} > a slow rank is waited for, and longer in the first step`,
      `${LAUNCHER} > a rank ten times slower than the steps before is waited for`,
      // Who is slow stands in the seconds of each rank.
      "tests/train/report/gather_figures_test.ts > every rank learns all losses, and the seconds and bytes of each rank",
    ],
  },
  {
    id: "RK5",
    fault: "the launcher is killed",
    tests: [`${LAUNCHER} > ranks die with their launcher, the stopped ones too`, CHAOS],
  },
  {
    id: "RK6",
    fault: "a rank throws, and the others fail because of it",
    tests: [
      `${LAUNCHER} > an ordinary error of one rank is the cause, whatever the others say`,
      "tests/train/launch/bridge/bridge_test.ts > ranks that end because of others leave the error to the launcher",
    ],
  },
  {
    id: "RK7",
    fault: "ranks are in different exchanges",
    tests: [
      `${INTERRUPTED} > ranks in exchanges of another kind, type, order or count are named`,
      "tests/comm/exchange/exchange_test.ts > ranks that make different calls are both named",
    ],
  },
  {
    id: "RK8",
    fault: "ranks are started with different settings or clips",
    tests: ["tests/train/checks/same_run_test.ts > every other difference is named on every rank"],
  },
  {
    id: "RK9",
    fault: "shared memory of a killed run is left",
    tests: [CHAOS, "tests/comm/launch/refused_test.ts > a rank whose launcher died before it could join ends at once"],
  },
  {
    id: "RK10",
    fault: "another process has the id of a dead run",
    tests: [
      "tests/io/lock_test.ts > a stale lock file is no lock",
      "tests/io/lock_test.ts > another process is named, and its death frees the lock",
    ],
  },
  {
    id: "RK11",
    fault: "too little shared memory",
    tests: ["tests/comm/launch/refused_test.ts > memory that the machine lacks is refused with what is there"],
  },
  {
    id: "RK12",
    fault: "a piece that its writer has not finished, or of an earlier exchange",
    tests: [
      `${INTERRUPTED} > whichever piece a rank dies at`,
      "tests/comm/exchange/control_test.ts > a counter has come to its target before and behind the wrap-around",
      "tests/comm/exchange/control_test.ts > descriptions of two exchanges in a row lie side by side",
    ],
  },
  {
    id: "RK13",
    fault: "more ranks than cards",
    tests: ["tests/comm/gpus/gpus_test.ts > pinGpus: what can't be done is refused with what to do"],
  },
  {
    id: "RK14",
    fault: "two runs at the same time",
    tests: [
      // Three groups at a time, whose memory has no name that could be taken.
      "tests/comm/launch/chaos_test.ts > twenty runs that fail at random",
      "tests/train/faults/tampering_test.ts > two runs that fill one cache at a time",
      "tests/cli/dashboard/server_test.ts > listens on the loopback address alone, and says which port is taken",
    ],
  },
  {
    id: "RK15",
    fault: "a rank ends well before the others",
    tests: [`${LAUNCHER} > a rank that ends before the others is a failure although its exit code is 0`],
  },
  {
    id: "RK16",
    fault: "a rank validates or encodes for longer than a step takes",
    tests: [
      `${INTERRUPTED} > a rank that validates or encodes is waited for beyond the usual deadline`,
      `${LAUNCHER} > a rank that is stopped while the others wait for long is named`,
      `${RANKS} > ranks share validation and held-out clips out`,
    ],
  },
  {
    id: "RK17",
    fault: "shards of another layout",
    tests: [
      `${RANKS} > sharded optimizer state and parameters change no bit`,
      `${RANKS} > a sharded run continues on one rank and the other way round`,
    ],
  },
  {
    id: "RK18",
    fault: "fewer clips than ranks",
    tests: ["tests/train/launch/few_clips_test.ts > three clips on four ranks train what they train on one"],
  },
];
