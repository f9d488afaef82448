/** Faults of networks and servers. */
import type { Fault } from "./catalogue.ts";

const DOWNLOAD = "tests/io/download_test.ts";
const BROKEN = "tests/reliability/downloads/interrupted_test.ts";
const HUB = "tests/models/folder/hub_test.ts";
const HOSTILE = "tests/models/folder/hostile_hub_test.ts";
const FAULTS = "tests/reliability/downloads/faults_test.ts";

/** Downloads (NW). */
export const downloads: readonly Fault[] = [
  {
    id: "NW1",
    fault: "a connection breaks at any byte",
    tests: [
      `${BROKEN} > a connection that breaks at 50 points: at most 8 MiB arrive twice`,
      `${DOWNLOAD} > a connection that breaks again and again: every byte is asked for once`,
    ],
  },
  {
    id: "NW2",
    fault: "the process is killed during a download",
    tests: [
      `${BROKEN} > a process that is killed at any point of a download: at most 8 MiB arrive twice`,
      `${DOWNLOAD} > what a killed process left is continued; a longer or damaged rest is not`,
    ],
  },
  {
    id: "NW3",
    fault: "a server that sends the whole where the rest was asked for",
    tests: [`${DOWNLOAD} > a server that ignores ranges, or refuses them, sends the file from its start`],
  },
  {
    id: "NW4",
    fault: "a wrong length, none, or compression that nobody asked for",
    tests: [
      `${DOWNLOAD} > a file of another size or content is not installed`,
      `${DOWNLOAD} > also through a server that compresses unasked`,
      "tests/io/server_faults_test.ts > answers that hold no file",
    ],
  },
  {
    id: "NW5",
    fault: "other bytes than those of the listed SHA-256",
    tests: [
      `${DOWNLOAD} > a file of another size or content is not installed, and the message has both values`,
      `${HUB} > a damaged file is never installed`,
    ],
  },
  {
    id: "NW6",
    fault: "a small file that has no SHA-256 on the hub",
    tests: [`${DOWNLOAD} > git object ids verify small files`, `${FAULTS} > another text`],
  },
  {
    id: "NW7",
    fault: "the repository changes between two files",
    tests: [`${HUB} > an interrupted download continues with the commit it began with`],
  },
  {
    id: "NW8",
    fault: "refusals, overload and faults of the server",
    tests: [
      `${FAULTS} > 29 faults have 29 messages`,
      `${HUB} > refusals say what to do`,
      `${DOWNLOAD} > overload is waited for as long as the server asks; a refusal ends at once with its status`,
    ],
  },
  {
    id: "NW9",
    fault: "no name, no server, no encryption, no network",
    tests: [
      `${FAULTS} > a server that is not there, or speaks another protocol`,
      `${HUB} > every byte reported, then no network`,
    ],
  },
  {
    id: "NW10",
    fault: "a body that trickles or never ends",
    tests: [
      `${DOWNLOAD} > a server that goes silent is left after the deadline`,
      "tests/io/server_faults_test.ts > a server that sends a byte now and then is left after the deadline",
      `${HOSTILE} > a file without end`,
    ],
  },
  {
    id: "NW11",
    fault: "a redirect to another host, a file or a connection that is not encrypted",
    tests: [
      `${DOWNLOAD} > credentials go to the first server only, and never over an unencrypted connection`,
      `${HOSTILE} > a redirect to a file of this machine`,
      `${HOSTILE} > the token goes nowhere else, whichever request is redirected or continued`,
    ],
  },
  {
    id: "NW12",
    fault: "names in a listing that lead elsewhere",
    tests: [`${HOSTILE} > a hostile hub: names that lead out of the cache are not asked for`],
  },
  {
    id: "NW13",
    fault: "two downloads of one model",
    tests: [`${HUB} > two processes that want one model: one downloads, the other waits and uses it`],
  },
  {
    id: "NW14",
    fault: "too little space",
    tests: [
      `${HUB} > a disk that is too small is found before the first byte`,
      `${DOWNLOAD} > a disk that cannot hold the file, or a folder in its place, is said before anything is asked for`,
    ],
  },
  {
    id: "NW15",
    fault: "a mirror in the place of the hub",
    tests: ["tests/models/folder/own_environment/train_by_id.ts > train takes a hub id: downloads first"],
  },
];
