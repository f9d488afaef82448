/** Faults of the programs that this one runs, and of the rights that it has. */
import type { Fault } from "./catalogue.ts";

const PLACES = "tests/data/own_environment/program_places.ts";
const TOOLS =
  "tests/data/own_environment/video_tools.ts > a tool that hangs, crashes, floods or is too old ends with an error";
const NAMES = "tests/reliability/injections_test.ts > a clip of any name is that clip, and nothing else is run";
const PLAIN = "tests/data/video/video_test.ts > probe() and decodeFrames() take hostile names as plain names";

/** ffmpeg and other programs (FF), and the bounds of this one (SB). */
export const programs: readonly Fault[] = [
  { id: "FF1", fault: "names that a shell or a list of options would obey", tests: [NAMES, PLAIN] },
  { id: "FF2", fault: "names that ffmpeg takes for a protocol", tests: [NAMES, PLAIN] },
  { id: "FF3", fault: "names that stand for a series of pictures", tests: [NAMES, PLAIN] },
  {
    id: "FF4",
    fault: "settings that would become a filter of their own",
    tests: [
      "tests/reliability/injections_test.ts > settings are numbers, choices and names as they must be, or refused",
    ],
  },
  {
    id: "FF5",
    fault: "playlists that open other files and addresses",
    tests: ["tests/data/video/hostile_test.ts > playlists are refused by what they hold, whatever they are called"],
  },
  {
    id: "FF6",
    fault: "a program of the same name in the current folder",
    tests: [`${PLACES} > a program in the current folder is not run, however PATH leads there`],
  },
  {
    id: "FF7",
    fault: "variables that load code into programs",
    tests: [
      `${PLACES} > programs see neither tokens nor what loads code into them`,
      `${PLACES} > with the documented flags, libraries of a cluster's modules keep no clip from being read`,
    ],
  },
  { id: "FF8", fault: "more output than was asked for", tests: [TOOLS] },
  { id: "FF9", fault: "a flood of error messages", tests: [TOOLS] },
  {
    id: "FF10",
    fault: "a program is left behind",
    tests: [
      `${PLACES} > a wrapper is ended with what it has started, and not waited for`,
      "tests/data/own_environment/slow_tools.ts > and ends ffmpeg when it is stopped",
      "tests/train/faults/chaos_test.ts > training that fails at random ends in time",
    ],
  },
  {
    id: "SB1",
    fault: "a command needs more rights than the document says",
    tests: ["tests/cli/permissions_test.ts > every command runs with exactly the flags of docs/permissions.md"],
  },
  {
    id: "SB2",
    fault: "a folder that is written to holds a program that is run",
    tests: [`${PLACES} > a folder that is written to may not hold the programs that are run`],
  },
  {
    id: "SB3",
    fault: "a package brings code that runs when it is installed, or changes",
    tests: ["tests/reliability/dependencies_test.ts > every package has one version and a hash"],
  },
  {
    id: "SB4",
    fault: "native code is called from anywhere",
    tests: [
      "tests/reliability/dependencies_test.ts > native code is called from few files",
      "tests/cli/permissions_test.ts > every command runs with exactly the flags of docs/permissions.md",
    ],
  },
  {
    id: "SB5",
    fault: "line breaks and control characters in what is printed and recorded",
    tests: [
      "tests/cli/machine/terminal_test.ts > every event, a setting and an error show control characters",
      "tests/cli/commands/train_command_test.ts > --json prints one object a line and nothing else, whatever events hold",
    ],
  },
];
