/** Faults of clips, pictures, prompts and the lists that name them. */
import type { Fault } from "./catalogue.ts";

const LISTS = "tests/data/dataset/dataset_test.ts";
const REFUSED = "tests/bad_input/dataset_test.ts";
const VIDEO = "tests/data/video/video_test.ts";
const TOOLS = "tests/data/own_environment/video_tools.ts > a tool that hangs, crashes, floods or is too old";
const ENTRIES = "tests/reliability/injections_test.ts > entries of a list lead to files of the dataset alone";

/** Data intake (DA). */
export const intake: readonly Fault[] = [
  {
    id: "DA1",
    fault: "an empty clip",
    tests: [`${REFUSED} > an empty video`, `${VIDEO} > name the fault of a bad file in one line`],
  },
  {
    id: "DA2",
    fault: "a clip cut before its index",
    tests: [
      `${VIDEO} > name the fault of a bad file in one line`,
      "tests/data/video/corpus_test.ts > a stream whose tail is cut off",
    ],
  },
  {
    id: "DA3",
    fault: "a clip cut behind its index, of which ffmpeg decodes a part without a word",
    tests: [`${VIDEO} > name the fault of a bad file in one line`, `${REFUSED} > a video cut short`],
  },
  {
    id: "DA4",
    fault: "flipped bits and gaps inside a clip",
    tests: [
      "tests/data/video/flips_test.ts > a clip with a flipped bit is refused, or gives all of its frames",
      `${VIDEO} > notices damage inside the file`,
    ],
  },
  {
    id: "DA5",
    fault: "text, a web page or a picture named like a clip",
    tests: [
      `${REFUSED} > text named like a video`,
      `${VIDEO} > name the fault of a bad file in one line`,
      "tests/data/video/streams_test.ts > a picture named like a clip",
    ],
  },
  {
    id: "DA6",
    fault: "a playlist named like a clip",
    tests: [
      "tests/data/video/hostile_test.ts > playlists are refused by what they hold",
      `${REFUSED} > a playlist named like a video`,
    ],
  },
  {
    id: "DA7",
    fault: "sound alone, or no frames",
    tests: [
      `${REFUSED} > a sound file named like a video`,
      "tests/data/own_environment/probes.ts > stands for no usable video",
    ],
  },
  {
    id: "DA8",
    fault: "fewer frames than are trained",
    tests: [
      "tests/data/video/frames_test.ts > repeats the last frame of a clip that is too short and says so",
      "tests/data/samples/dataset_check_test.ts > returns every problem and warning of every clip",
    ],
  },
  {
    id: "DA9",
    fault: "a variable frame rate",
    tests: [
      `${VIDEO} > keeps every frame of a variable frame rate`,
      "tests/data/video/frames_test.ts > follows the timestamps of a variable frame rate",
    ],
  },
  {
    id: "DA10",
    fault: "turned, odd, wide, deep, grey, transparent or interlaced pictures",
    tests: [
      "tests/data/video/corpus_test.ts > a clip of any kind",
      "tests/data/video/corpus_test.ts > what interlacing and transparency come to",
      "tests/data/video/streams_test.ts > pixels that are not square",
      "tests/data/video/colour_test.ts > colour of a clip",
    ],
  },
  {
    id: "DA11",
    fault: "several video streams, or a cover picture",
    tests: ["tests/data/video/streams_test.ts > a cover picture is no clip"],
  },
  {
    id: "DA12",
    fault: "sizes and lengths that would fill the memory",
    tests: [
      "tests/data/video/hostile_test.ts > a size that would fill the memory",
      "tests/data/own_environment/probes.ts > stands for no usable video",
      TOOLS,
    ],
  },
  {
    id: "DA13",
    fault: "ffmpeg hangs",
    tests: [TOOLS, "tests/data/own_environment/slow_tools.ts > ends ffmpeg when it"],
  },
  {
    id: "DA14",
    fault: "ffmpeg missing or too old",
    tests: ["tests/bad_input/machine_test.ts > train without ffmpeg", TOOLS],
  },
  { id: "DA15", fault: "ffmpeg crashes", tests: [TOOLS] },
  {
    id: "DA16",
    fault: "pixels that depend on processor or threads",
    tests: ["tests/data/video/machines_test.ts > with 1, 2 and 4 threads and without vector units"],
  },
  {
    id: "DA17",
    fault: "more prompts than clips, or fewer",
    tests: [`${LISTS} > names the first entry without a partner`, `${REFUSED} > a prompt too many`],
  },
  {
    id: "DA18",
    fault: "a blank line that would shift pairs",
    tests: [`${LISTS} > never shifts pairs over a blank line`, `${REFUSED} > a blank line, which would shift pairs`],
  },
  {
    id: "DA19",
    fault: "lists in other encodings, with marks, other line ends or NUL",
    tests: [
      `${LISTS} > takes a byte order mark, Windows line ends`,
      `${LISTS} > reports all problems at once`,
      `${REFUSED} > prompts in Latin-1`,
      "tests/data/dataset/texts_test.ts > in UTF-16, with halves of characters or with NUL",
    ],
  },
  {
    id: "DA20",
    fault: "a prompt longer than the model reads",
    tests: [
      "tests/data/text/prompt_length_test.ts > shows what the model does not read",
      "tests/cli/commands/data_report_test.ts > notes a prompt of 800 words",
    ],
  },
  {
    id: "DA21",
    fault: "prompts with control characters and other directions of writing",
    tests: [
      "tests/cli/machine/terminal_test.ts > show control characters, in a file and on a terminal",
      "tests/reliability/injections_test.ts > a prompt becomes the name of one file",
      "tests/io/html_page_test.ts > text from outside ends neither an element nor an attribute",
    ],
  },
  {
    id: "DA22",
    fault: "paths that lead out of the dataset",
    tests: [ENTRIES, `${LISTS} > reports all problems at once`],
  },
  {
    id: "DA23",
    fault: "a symbolic link out of the dataset",
    tests: [`${LISTS} > follows symbolic links only inside the folder`, ENTRIES],
  },
  {
    id: "DA24",
    fault: "a link to itself, a folder, a pipe or a device named like a clip",
    tests: [
      `${LISTS} > follows symbolic links only inside the folder`,
      `${LISTS} > never opens a pipe named like a clip`,
      `${LISTS} > reports all problems at once`,
    ],
  },
  {
    id: "DA25",
    fault: "a clip listed twice, and two clips of one name",
    tests: [
      `${LISTS} > warns about a clip listed twice`,
      "tests/data/dataset/file_names_test.ts > a clip that a disk knows by two names",
      "tests/train/faults/defects_test.ts > d: clips of one file name",
      "tests/data/samples/dataset_check_test.ts > equal content under two names",
    ],
  },
  {
    id: "DA26",
    fault: "a clip replaced after it was looked at",
    tests: [
      "tests/train/data/cache_builds_test.ts > a clip that is replaced after it was looked at",
      "tests/data/cache/file_hashes_test.ts > does not trust a file that has just changed",
    ],
  },
  {
    id: "DA27",
    fault: "a first frame that is missing, damaged or of another shape",
    tests: [
      `${LISTS} > uses images.txt where it exists`,
      "tests/data/samples/dataset_check_test.ts > looks at condition pictures",
      "tests/data/video/flips_test.ts > a picture with a flipped bit is refused",
      "tests/data/samples/cache_fill_test.ts > condition pictures: own file or first frame",
    ],
  },
  {
    id: "DA28",
    fault: "fewer clips than a batch, or none: the batch counts as many as there are",
    tests: [
      "tests/data/random/sampler_test.ts > partial last batch kept",
      "tests/train/data/batches_test.ts > a batch that is not full gives its samples the weights",
      `${LISTS} > says what it looked for in a folder that is no dataset`,
    ],
  },
  {
    id: "DA29",
    fault: "an identifier token written twice, captions that are empty or missing",
    tests: [
      "tests/data/samples/dataset_check_test.ts > looks at condition pictures and at the frame rule",
      "tests/data/dataset/formats_test.ts > clips without captions take one prompt",
      "tests/data/dataset/texts_test.ts > clips with an empty caption are counted",
    ],
  },
  {
    id: "DA30",
    fault: "a damaged tokenizer, or one of another vocabulary",
    tests: [
      "tests/data/text/vocabulary_test.ts > none in which a known text has other ids",
      "tests/data/text/vocabulary_test.ts > no fewer rows than pieces",
      "tests/bad_input/model_test.ts > a tokenizer of more pieces than the text encoder knows",
      "tests/data/text/damaged_test.ts > SentencePiece models of another kind",
      "tests/data/text/tokenizer_test.ts > a model cut anywhere",
    ],
  },
];
