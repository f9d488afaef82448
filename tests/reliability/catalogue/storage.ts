/** Faults while checkpoints are written, and of the file systems that they are written to. */
import type { Fault } from "./catalogue.ts";

const COMMIT = "tests/io/commit_folder_test.ts > at every operation";
const KILLS = "tests/train/faults/kill_test.ts";

/** Checkpoints (CK) and file systems (FS). */
export const storage: readonly Fault[] = [
  {
    id: "CK1",
    fault: "killed before a checkpoint is begun",
    tests: [COMMIT, `${KILLS} > before the first checkpoint`],
  },
  { id: "CK2", fault: "killed in the middle of a file of tensors", tests: [COMMIT, `${KILLS} > in the state file`] },
  {
    id: "CK3",
    fault: "a rank killed while a checkpoint is gathered and written",
    tests: [
      "tests/train/faults/chaos_test.ts > leaves nothing and keeps its checkpoints",
      `${KILLS} > between two files of a checkpoint`,
    ],
  },
  { id: "CK4", fault: "killed around the manifest", tests: [COMMIT, `${KILLS} > before the manifest`] },
  {
    id: "CK5",
    fault: "killed before a checkpoint gets its name",
    tests: [COMMIT, `${KILLS} > before a checkpoint gets its name`],
  },
  {
    id: "CK6",
    fault: "killed before the name of a checkpoint is on disk",
    tests: [`${KILLS} > before the name of a checkpoint is on disk`, "tests/io/power_loss_test.ts > no loss of power"],
  },
  {
    id: "CK7",
    fault: "killed while the newest checkpoint is noted: none is noted, it is found by looking",
    tests: ["tests/io/checkpoints_test.ts > the newest good one", `${KILLS} > right after a save`],
  },
  {
    id: "CK8",
    fault: "killed while an old checkpoint is removed",
    tests: [
      "tests/io/checkpoints_test.ts > a kill at every operation leaves whole checkpoints",
      `${KILLS} > in pruning`,
      `${KILLS} > between commit and pruning`,
    ],
  },
  {
    id: "CK9",
    fault: "power lost at any moment, with writes out of order",
    tests: ["tests/io/power_loss_test.ts > no loss of power"],
  },
  {
    id: "CK10",
    fault: "an input/output error in the middle of a save",
    tests: [
      COMMIT,
      "tests/train/checkpoint/save_schedule_test.ts > those that fail are tried again",
      "tests/train/checkpoint/save_schedule_test.ts > a run ends when two regular saves in a row fail",
    ],
  },
  {
    id: "CK11",
    fault: "what is written cannot be forced to disk",
    tests: ["tests/io/disks/failed_sync_test.ts > the next attempt writes all of it anew"],
  },
  {
    id: "CK12",
    fault: "fewer bytes are written than were asked for, and none",
    tests: [
      "tests/io/atomic_test.ts > at every operation leaves the earlier file or the new one",
      "tests/io/file_error_test.ts > a file system that takes no bytes",
    ],
  },
  {
    id: "CK13",
    fault: "the save fails where one checkpoint is kept",
    tests: ["tests/train/checkpoint/checkpoint_test.ts > all of them when the next can't be written"],
  },
  {
    id: "CK14",
    fault: "a flipped bit in a checkpoint",
    tests: [
      "tests/train/faults/tampering_test.ts > every flipped bit of a checkpoint",
      "tests/train/checkpoint/resume_test.ts > passes over a damaged checkpoint and says so",
    ],
  },
  {
    id: "CK15",
    fault: "a file of a checkpoint missing, or one too many",
    tests: [
      "tests/io/commit_folder_test.ts > lists every problem at once",
      "tests/train/checkpoint/incomplete_test.ts > a checkpoint without a part of its state",
    ],
  },
  {
    id: "CK16",
    fault: "a manifest that is cut, no JSON or of another version",
    tests: ["tests/io/commit_folder_test.ts > missing, cut, foreign or hostile"],
  },
  {
    id: "CK17",
    fault: "files and folders named nearly like checkpoints",
    tests: ["tests/io/checkpoints_test.ts > by step, without decoys"],
  },
  {
    id: "CK18",
    fault: "two checkpoints of one step",
    tests: ["tests/train/checkpoint/incomplete_test.ts > a checkpoint that was renamed"],
  },
  {
    id: "CK19",
    fault: "SIGTERM while a checkpoint is written",
    tests: [
      "tests/train/faults/interrupted_saves_test.ts > at any file operation of a save",
      "tests/train/faults/signals_test.ts > while saving",
    ],
  },
  {
    id: "CK20",
    fault: "a save not done when the next is due",
    tests: [],
    instead: "A save is part of the loop, which makes no step before it is done: there is never a second writer.",
  },
  {
    id: "CK21",
    fault: "moments, counters or settings missing from a checkpoint",
    tests: [
      "tests/train/checkpoint/incomplete_test.ts > a checkpoint without a part of its state",
      "tests/train/checkpoint/incomplete_test.ts > counters of a checkpoint are whole",
    ],
  },
  {
    id: "CK22",
    fault: "killed while a LoRA or a model is exported",
    tests: [
      "tests/models/lora/file_test.ts > a failed save leaves the earlier file",
      "tests/io/safetensors/writer_test.ts > leaves the earlier file or the whole one",
      "tests/models/lora/merge_test.ts > a folder is complete or absent",
    ],
  },
  {
    id: "FS1",
    fault: "the disk fills up during a save",
    tests: [
      "tests/bad_input/machine_test.ts > leaves the earlier ones whole",
      "tests/train/faults/failed_saves_test.ts > a disk that is full for a while",
      COMMIT,
    ],
  },
  {
    id: "FS2",
    fault: "the disk fills up while clips are encoded",
    tests: ["tests/train/faults/failed_saves_test.ts > a disk that fills up while clips are encoded"],
  },
  {
    id: "FS3",
    fault: "the disk fills up while steps are recorded",
    tests: ["tests/train/faults/failed_saves_test.ts > records that a full disk has no room for"],
  },
  {
    id: "FS4",
    fault: "the disk fills up during a download",
    tests: [
      "tests/io/server_faults_test.ts > a disk that fills up in the middle",
      "tests/io/download_test.ts > a disk that cannot hold the file",
    ],
  },
  {
    id: "FS5",
    fault: "a read-only output folder",
    tests: ["tests/bad_input/disks_test.ts > cannot be written are told before any weight is loaded"],
  },
  {
    id: "FS6",
    fault: "a read-only dataset",
    tests: ["tests/bad_input/disks_test.ts > cannot be written are told before any weight is loaded"],
  },
  {
    id: "FS7",
    fault: "a file or folder of another user",
    tests: [
      "tests/bad_input/own_environment/other_user.ts > named with the user",
      "tests/io/file_error_test.ts > every failure of a disk",
    ],
  },
  {
    id: "FS8",
    fault: "a name that is too long or impossible",
    tests: [
      "tests/io/file_error_test.ts > the kernel's own refusals of a name",
      "tests/bad_input/commands_test.ts > wrong input",
    ],
  },
  {
    id: "FS9",
    fault: "too few files may be open",
    tests: ["tests/bad_input/disks_test.ts > a run that may open too few files says so"],
  },
  {
    id: "FS10",
    fault: "a quota, or a limit on the size of files by which the system kills",
    tests: [
      "tests/bad_input/disks_test.ts > whose files are cut off at a size",
      "tests/io/file_error_test.ts > a quota that is used up",
    ],
  },
  {
    id: "FS11",
    fault: "two runs in one output folder",
    tests: [
      "tests/bad_input/machine_test.ts > an output folder in use by another run",
      "tests/io/lock_test.ts > another process is named, and its death frees the lock",
    ],
  },
  { id: "FS12", fault: "a lock left by a restart", tests: ["tests/io/lock_test.ts > a stale lock file is no lock"] },
  {
    id: "FS13",
    fault: "locks of a network that hold nobody off",
    tests: [
      "tests/io/disks/foreign_folders_test.ts > is noticed when it is renewed",
      "tests/io/commit_folder_test.ts > refuses an existing folder",
    ],
  },
  {
    id: "FS14",
    fault: "one file under two names, as where case does not count; names that are not UTF-8",
    tests: [
      "tests/data/dataset/file_names_test.ts > a clip that a disk knows by two names",
      "tests/data/dataset/file_names_test.ts > differ in the case of letters alone",
      "tests/data/dataset/file_names_test.ts > whose names are not UTF-8",
    ],
  },
  {
    id: "FS15",
    fault: "an output folder that is a link, the dataset, in it, or the cache",
    tests: [
      "tests/train/checkpoint/shared_folders_test.ts > costs nobody a file",
      "tests/data/dataset/runs_inside_test.ts > are not trained on",
      "tests/io/disks/foreign_folders_test.ts > that it did not write",
    ],
  },
  {
    id: "FS16",
    fault: "the output folder removed or filled by somebody else during a run",
    tests: [
      "tests/train/faults/tampering_test.ts > an output folder that is removed while training",
      "tests/train/faults/failed_saves_test.ts > what somebody else has put in the place of a checkpoint",
    ],
  },
];
