/** Faults of configs and command lines. */
import type { Fault } from "./catalogue.ts";

const CONFIG = "tests/config/config_test.ts";
const RULES = "tests/config/rules_test.ts";
const HOSTILE = `${CONFIG} > hostile YAML is refused with a place: tabs, duplicates, aliases, tags, nesting, odd keys`;
const ALL = `${CONFIG} > all problems are reported at once with file, line and column`;
const BOMBS = "tests/config/yaml_bombs_test.ts > YAML bombs are refused, each with a place";
const NOTES = `${CONFIG} > settings that are likely a mistake give a note with their place`;

/** Configs and the command line (CF). */
export const config: readonly Fault[] = [
  {
    id: "CF1",
    fault: "a key that is misspelt",
    tests: [`${CONFIG} > every key with one edit is refused and its nearest name given`],
  },
  {
    id: "CF2",
    fault: "a value of another type, or one that YAML reads otherwise than meant",
    tests: [ALL, `${CONFIG} > YAML 1.2 scalars: 010 is ten, yes and 1_000 are text`],
  },
  { id: "CF3", fault: "tabs as indentation", tests: [HOSTILE] },
  { id: "CF4", fault: "a key twice", tests: [HOSTILE] },
  {
    id: "CF5",
    fault: "aliases that multiply or lead in a circle",
    tests: [BOMBS, "tests/config/edge_values_test.ts > aliases of YAML are refused, however harmless"],
  },
  {
    id: "CF6",
    fault: "nesting without end, and a file that is too long",
    tests: [BOMBS, HOSTILE, `${RULES} > a file that nests without end or breaks a rule at every character`],
  },
  { id: "CF7", fault: "tags that make objects", tests: [HOSTILE] },
  { id: "CF8", fault: "keys of every object, and keys that merge", tests: [HOSTILE] },
  {
    id: "CF9",
    fault: "no number, an infinite one, or one with more digits than are kept",
    tests: [ALL, `${CONFIG} > bounds hold at the boundary and one beside it`],
  },
  {
    id: "CF10",
    fault: "a number of frames that no clip has",
    tests: [`${CONFIG} > frames 1 to 100: 8N + 1 passes, others name the nearest legal counts`],
  },
  {
    id: "CF11",
    fault: "a size that the model does not divide, or was not trained at",
    tests: [ALL, NOTES, `${RULES} > settings that cannot be had together are refused`],
  },
  {
    id: "CF12",
    fault: "an odd number of latent frames for models of version 1.5",
    tests: [
      "tests/step/run_description_test.ts > are 21 latent frames, padded to 22 for 1.5",
      "tests/train/data/batches_test.ts > frames first, with the first frame repeated in front",
    ],
  },
  { id: "CF13", fault: "a precision that the model was not made for", tests: [NOTES] },
  {
    id: "CF14",
    fault: "settings that contradict each other",
    tests: [
      `${CONFIG} > contradictions are refused`,
      `${CONFIG} > what cannot be sharded is refused before anything starts`,
      `${RULES} > settings that cannot be had together are refused`,
    ],
  },
  {
    id: "CF15",
    fault: "relative paths, home folders, spaces and variables in paths",
    tests: [
      `${CONFIG} > paths: file values start at the file's folder, overrides at the current folder, ~ at home`,
      "tests/config/edge_values_test.ts > spaces, dollars and percent signs of a path are its own",
    ],
  },
  {
    id: "CF16",
    fault: "words for yes and no on a command line",
    tests: [`${CONFIG} > command-line text is strict: False is false, 1 is no boolean`],
  },
  {
    id: "CF17",
    fault: "a number out of its range",
    tests: [`${CONFIG} > bounds hold at the boundary and one beside it`],
  },
  {
    id: "CF18",
    fault: "a config that was edited between saving and continuing",
    tests: [
      "tests/config/edge_values_test.ts > a continued run names every setting that was changed",
      `${CONFIG} > requireResumable() refuses what the saved state cannot follow`,
    ],
  },
  {
    id: "CF19",
    fault: "a token in the environment",
    tests: [
      "tests/reliability/secrets_test.ts > a token is in no message, metric, page, checkpoint, profile or report",
      "tests/config/import/import_test.ts > secrets stay out of the file",
    ],
  },
];
