/** Faults of the dashboard, and what strangers may try on it. */
import type { Fault } from "./catalogue.ts";

const SERVER = "tests/cli/dashboard/server_test.ts";
const ATTACKS = "tests/cli/dashboard/attack_test.ts > no attack on the dashboard succeeds";
const FLOOD = "tests/cli/dashboard/flood_test.ts";
const OWN = `${SERVER} > the dashboard answers to names of this machine alone, and to reading alone`;
const PORT = `${SERVER} > listens on the loopback address alone, and says which port is taken`;
const POLICY = `${SERVER} > the dashboard draws pages from their data alone, under a policy that names its own script`;

/** The dashboard (HT). */
export const dashboard: readonly Fault[] = [
  { id: "HT1", fault: "it is reachable from other machines", tests: [PORT] },
  { id: "HT2", fault: "another name that resolves to this machine", tests: [OWN, ATTACKS] },
  { id: "HT3", fault: "requests that a page of another site makes", tests: [OWN, ATTACKS, PORT] },
  { id: "HT4", fault: "guesses of the token, and ways on which it could leak", tests: [ATTACKS, PORT] },
  {
    id: "HT5",
    fault: "paths out of the folder",
    tests: [ATTACKS, `${SERVER} > the dashboard gives out media of its folder and nothing else, by no way around`],
  },
  {
    id: "HT6",
    fault: "script in prompts, names and messages",
    tests: [
      POLICY,
      "tests/train/report/run_page_test.ts > RunPage takes nothing from elsewhere, and prompts, clips and warnings stay data",
      "tests/cli/dashboard/browser_test.ts > Chromium shows runs in progress",
    ],
  },
  {
    id: "HT7",
    fault: "floods of connections, and requests that are slow or too long",
    tests: [
      `${FLOOD} > a run that may open few files trains and saves the same bits under a flood of connections`,
      `${FLOOD} > some are taken, the late ones are closed, and the user is answered`,
      ATTACKS,
    ],
  },
  {
    id: "HT8",
    fault: "an answer fails",
    tests: [`${FLOOD} > an answer that fails is an answer without details, and the next one is given`],
  },
  { id: "HT9", fault: "the page inside the frame of another one", tests: [POLICY] },
  {
    id: "HT10",
    fault: "secrets on the page",
    tests: [
      "tests/reliability/secrets_test.ts > a token is in no message, metric, page, checkpoint, profile or report",
      `${SERVER} > the dashboard gives out media of its folder and nothing else`,
    ],
  },
  {
    id: "HT11",
    fault: "the port is taken",
    tests: [PORT, `${FLOOD} > where the usual port is taken another one is used`],
  },
  { id: "HT12", fault: "a socket opened by another site", tests: [ATTACKS] },
];
