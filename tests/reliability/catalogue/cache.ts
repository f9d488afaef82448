/** Faults of the cache of encoded clips, pictures and prompts. */
import type { Fault } from "./catalogue.ts";

const CHANGES = "tests/train/data/cache_changes_test.ts > renames exactly the cache entries that it affects";
const CACHE = "tests/data/cache/cache_test.ts";

/** Latents and prompts (CA). */
export const cache: readonly Fault[] = [
  {
    id: "CA1",
    fault: "another clip under the old name and time",
    tests: [
      "tests/data/cache/file_hashes_test.ts > even with the old size and time",
      "tests/data/samples/cache_fill_test.ts > a plan names what changed and why",
    ],
  },
  { id: "CA2", fault: "other weights of the autoencoder", tests: [CHANGES] },
  {
    id: "CA3",
    fault: "other frames, sizes, rates, crops or tiles",
    tests: [CHANGES, `${CACHE} > pixelFields() depend`],
  },
  { id: "CA4", fault: "another prompt, identifier token, text encoder or length", tests: [CHANGES] },
  {
    id: "CA5",
    fault: "killed while an entry is written",
    tests: [
      "tests/train/faults/kill_test.ts > in a cache entry",
      "tests/train/faults/kill_test.ts > before a cache entry gets its name",
      "tests/io/safetensors/writer_test.ts > leaves the earlier file or the whole one",
    ],
  },
  {
    id: "CA6",
    fault: "an entry without bytes, as a loss of power leaves",
    tests: [
      `${CACHE} > never uses a damaged, cut, empty or foreign entry`,
      "tests/io/atomic_test.ts > content is on disk before the name",
    ],
  },
  {
    id: "CA7",
    fault: "a flipped bit, a cut or a foreign entry",
    tests: [
      `${CACHE} > never uses a damaged, cut, empty or foreign entry`,
      "tests/train/faults/tampering_test.ts > every flipped bit of a cache entry",
      "tests/data/cache/odd_folders_test.ts > holds something else is dropped",
    ],
  },
  {
    id: "CA8",
    fault: "an encoder that gives NaN or infinity",
    tests: [
      `${CACHE} > stores no NaN or infinity and names the sample`,
      "tests/data/samples/cache_fill_test.ts > cannot be decoded or encoded are reported together",
    ],
  },
  {
    id: "CA9",
    fault: "two processes encode one clip",
    tests: [
      "tests/data/samples/cache_fill_test.ts > two processes filling one cache at once",
      "tests/train/faults/tampering_test.ts > two runs that fill one cache at a time",
      `${CACHE} > writes the same bytes for the same content`,
    ],
  },
  {
    id: "CA10",
    fault: "an entry that somebody has planted",
    tests: [
      `${CACHE} > never uses a damaged, cut, empty or foreign entry`,
      "tests/train/data/other_shapes_test.ts > entries of another shape are built again",
      "tests/train/faults/tampering_test.ts > are for their user alone",
    ],
  },
  {
    id: "CA11",
    fault: "the cache removed during a run",
    tests: ["tests/train/faults/tampering_test.ts > stops the run with the name of a clip"],
  },
  {
    id: "CA12",
    fault: "a cache of another version",
    tests: [`${CACHE} > never uses a damaged, cut, empty or foreign entry`],
  },
  {
    id: "CA13",
    fault: "encoding that is cut off in the middle of the dataset",
    tests: ["tests/train/data/cache_builds_test.ts > goes on with the clip it was at"],
  },
  {
    id: "CA14",
    fault: "an entry of another shape than the model reads",
    tests: [
      "tests/train/data/other_shapes_test.ts > entries of another shape are built again",
      "tests/train/data/other_shapes_test.ts > is replaced by one of another shape while training",
    ],
  },
  {
    id: "CA15",
    fault: "a cache that depends on chance",
    tests: ["tests/train/data/cache_builds_test.ts > two builds of a cache have the same bytes"],
  },
];
