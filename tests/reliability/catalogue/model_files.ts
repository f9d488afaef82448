/** Faults of model folders, and of safetensors files that somebody may have made on purpose. */
import type { Fault } from "./catalogue.ts";

const FILES = "tests/io/safetensors/safetensors_test.ts";
/** A table of headers, each with what is said about it; faults name their rows by it. */
const HEADERS = `${FILES} > refuses every malformed header`;
const ACCEPTED = `${FILES} > accepts what the format allows`;
const MODEL = "tests/bad_input/model_test.ts";
const SHARDS = "tests/io/safetensors/shards_test.ts";

/** Weights and configs (ST). */
export const modelFiles: readonly Fault[] = [
  {
    id: "ST1",
    fault: "a file shorter than its length field",
    tests: [`${FILES} > refuses wrong header lengths before allocating`, `${MODEL} > empty weights`],
  },
  {
    id: "ST2",
    fault: "a header length of nothing, more than the file, or 2^63 and beyond",
    tests: [`${FILES} > refuses wrong header lengths before allocating`, `${MODEL} > a header longer than the file`],
  },
  {
    id: "ST3",
    fault: "a header of a million tensors",
    tests: [`${FILES} > decides on a header of`, `${FILES} > 100000 wrong tensors make a short message`],
  },
  {
    id: "ST4",
    fault: "a header that is no JSON object, or more than one",
    tests: [HEADERS, `${FILES} > two objects`, `${FILES} > byte order mark`, `${FILES} > bad UTF-8`],
  },
  {
    id: "ST5",
    fault: "blanks around the header: behind it, where writers put them, they are taken, in front they are not",
    tests: [`${FILES} > names, shapes, dtypes, metadata and bytes`, `${FILES} > blank before the header`],
  },
  {
    id: "ST6",
    fault: "a tensor that stands twice",
    tests: [HEADERS, `${FILES} > duplicate tensor of another type`, `${MODEL} > a tensor that stands twice`],
  },
  {
    id: "ST7",
    fault: "metadata or a field that stands twice",
    tests: [HEADERS, `${FILES} > duplicate metadata`, `${FILES} > duplicate field`],
  },
  {
    id: "ST8",
    fault: "tensors that share bytes",
    tests: [HEADERS, `${FILES} > same bytes twice`, `${FILES} > partial overlap`, `${MODEL} > tensors that overlap`],
  },
  {
    id: "ST9",
    fault: "bytes that belong to no tensor, or are missing",
    tests: [
      HEADERS,
      `${FILES} > hole in the middle`,
      `${FILES} > bytes after the data`,
      `${FILES} > data cut short`,
      `${MODEL} > weights cut short`,
    ],
  },
  {
    id: "ST10",
    fault: "offsets that are reversed, negative, too many or beyond the file",
    tests: [
      HEADERS,
      `${FILES} > offsets in reverse`,
      `${FILES} > negative offset`,
      `${FILES} > three offsets`,
      `${FILES} > offsets beyond the file`,
    ],
  },
  {
    id: "ST11",
    fault: "numbers that are no integers, and what only looks like a number",
    tests: [HEADERS, `${FILES} > exponent shape`, `${FILES} > boolean shape`, `${FILES} > minus zero`],
  },
  {
    id: "ST12",
    fault: "integers above 2^53",
    tests: [HEADERS, `${FILES} > integer above 2^53`, `${FILES} > integer of 60 digits`],
  },
  {
    id: "ST13",
    fault: "sizes whose product overflows, or is nothing",
    tests: [HEADERS, `${FILES} > product wraps to 4 in 64 bits`, ACCEPTED],
  },
  {
    id: "ST14",
    fault: "a shape that does not come to the bytes",
    tests: [
      HEADERS,
      `${FILES} > shape and bytes disagree`,
      `${FILES} > half a byte`,
      `${FILES} > every dtype of the format has its size`,
    ],
  },
  {
    id: "ST15",
    fault: "types that are unknown or missing, fields that are unknown",
    tests: [HEADERS, `${FILES} > lower-case dtype`, `${FILES} > missing everything`, ACCEPTED],
  },
  {
    id: "ST16",
    fault: "metadata that are no texts",
    tests: [HEADERS, `${FILES} > metadata that is a tensor`, ACCEPTED],
  },
  { id: "ST17", fault: "names that mean something to a program or a file system", tests: [ACCEPTED] },
  {
    id: "ST18",
    fault: "half of a character, and nesting without end",
    tests: [HEADERS, `${FILES} > lone surrogate in a name`, `${FILES} > nesting of 100000 levels`],
  },
  {
    id: "ST19",
    fault: "numbers at odd addresses",
    tests: [
      "tests/io/safetensors/half_test.ts > bytes at odd addresses",
      `${FILES} > names, shapes, dtypes, metadata and bytes`,
    ],
  },
  {
    id: "ST20",
    fault: "NaN in weights",
    tests: [
      "tests/train/checks/broken_weights_test.ts > are all named before the first step",
      "tests/step/poison_test.ts > leaves all trained weights as they were",
      "tests/models/lora/file_test.ts > NaN and alpha of zero are refused together",
    ],
  },
  {
    id: "ST21",
    fault: "a file that is written to while it is read",
    tests: [
      `${FILES} > a file that is written to while it is open`,
      `${FILES} > a file that shrinks while open`,
      "tests/data/cache/odd_folders_test.ts > reads a file again that changes under it",
    ],
  },
  {
    id: "ST22",
    fault: "an index of shards that contradicts them or leads elsewhere",
    tests: [
      `${SHARDS} > every contradiction is named`,
      `${SHARDS} > does not hide what is stored`,
      `${MODEL} > a shard that is a path`,
      `${MODEL} > a missing shard`,
    ],
  },
  {
    id: "ST23",
    fault: "a pickle for weights",
    tests: [`${FILES} > tells what a file of another kind is`, `${SHARDS} > an empty or missing folder`],
  },
  {
    id: "ST24",
    fault: "a part of a model, another model, or half a download",
    tests: [
      `${MODEL} > a part of a model`,
      `${MODEL} > a Stable Diffusion folder`,
      `${MODEL} > an empty folder`,
      `${MODEL} > another model than the config is for`,
    ],
  },
  {
    id: "ST25",
    fault: "tensors that are missing, too many or of other shapes",
    tests: [
      `${MODEL} > a tensor that is missing`,
      `${MODEL} > a tensor of another shape`,
      "tests/models/vae/vae_test.ts > weights that do not fit are listed together",
      "tests/models/t5/encoder_test.ts > missing tensors and unusable settings",
    ],
  },
  {
    id: "ST26",
    fault: "weights of another type than the run computes in",
    tests: [
      `${MODEL} > a tensor of another type`,
      "tests/io/safetensors/half_test.ts > widen to the value IEEE 754 defines",
      "tests/models/float8_test.ts > is the model of its numbers",
      `${FILES} > names, shapes, dtypes, metadata and bytes`,
    ],
  },
  {
    id: "ST27",
    fault: "a LoRA of another rank or other layers than the run",
    tests: [
      "tests/config/config_test.ts > refuses what the saved state cannot follow",
      "tests/models/lora/start_test.ts > ranks that are too small are listed together",
      "tests/train/checkpoint/find_test.ts > state of other tensors is refused",
    ],
  },
  {
    id: "ST28",
    fault: "a LoRA of another model",
    tests: [
      "tests/models/lora/merge_test.ts > a LoRA of another model is refused with both names",
      "tests/sample/load_transformer_test.ts > a LoRA of another model is refused",
    ],
  },
  {
    id: "ST29",
    fault: "a config of sizes that are huge, negative or no numbers",
    tests: [
      `${MODEL} > a config with sizes of nothing and of everything`,
      "tests/models/transformer/config_test.ts > is refused with what it says",
      "tests/models/vae/vae_test.ts > a config with several mistakes",
      "tests/models/t5/encoder_test.ts > a config of another model is refused with every reason",
    ],
  },
  {
    id: "ST30",
    fault: "an archive whose entries lead out of its folder",
    tests: ["tests/reliability/archives_test.ts > no archive is unpacked"],
  },
];
