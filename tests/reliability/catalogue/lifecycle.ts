/** Faults of a run's life: signals, clocks, the host, the version of the program. */
import type { Fault } from "./catalogue.ts";

const SIGNALS = "tests/train/faults/signals_test.ts";

/** Signals, clock and life of a run (SG). */
export const lifecycle: readonly Fault[] = [
  {
    id: "SG1",
    fault: "a signal in any phase, and a second one",
    tests: [
      `${SIGNALS} > a signal in any phase saves what was trained within a step`,
      "tests/io/download_test.ts > an abort ends a download at once and keeps what has arrived",
      "tests/cli/commands/train_command_test.ts > the first signal lets the trainer save, the second ends at once",
    ],
  },
  {
    id: "SG2",
    fault: "a signal while the thread that trains waits for the GPU or for other ranks",
    tests: [
      `${SIGNALS} > a signal in any phase saves what was trained within a step`,
      "tests/comm/launch/launcher_test.ts > and those that do not obey are killed",
    ],
  },
  {
    id: "SG3",
    fault: "nobody reads the output any more, or the terminal is closed",
    tests: [
      "tests/docs/listener_test.ts > a run outlives the program that reads its events",
      `${SIGNALS} > a run goes on without its terminal where nohup says so, and nowhere else`,
    ],
  },
  {
    id: "SG4",
    fault: "the clock jumps by hours, days or years",
    tests: [
      "tests/train/faults/clock_test.ts > a run under a clock that jumps computes, keeps, orders and continues the same",
      "tests/train/faults/clock_test.ts > by a clock that does not jump",
    ],
  },
  {
    id: "SG5",
    fault: "the machine sleeps",
    tests: ["tests/comm/exchange/control_test.ts > the time in which a machine slept is not held against a rank"],
  },
  {
    id: "SG6",
    fault: "an error in a worker or a rank that nothing waits for",
    tests: [
      "tests/train/launch/bridge/uncaught_test.ts > without being waited for ends the run with one error",
      "tests/train/launch/bridge/bridge_test.ts > every event and every error arrives as it was sent",
    ],
  },
  {
    id: "SG7",
    fault: "a validation fails",
    tests: [
      "tests/train/checks/validation_test.ts > an error in validation is a warning and training goes on",
      "tests/train/checks/validation_test.ts > and change no bit",
    ],
  },
  {
    id: "SG8",
    fault: "the host kills the process again and again",
    tests: [
      "tests/train/faults/killed_again_test.ts > a run that is killed again and again never goes back behind a save",
    ],
  },
  {
    id: "SG9",
    fault: "records that end in the middle of a line, or behind the step that is continued from",
    tests: [
      "tests/train/report/metrics_log_test.ts > cuts back to the step a run continues from, with torn and later lines",
      "tests/train/faults/kill_test.ts > killed anywhere and continued, a run ends with the same bits",
    ],
  },
  {
    id: "SG10",
    fault: "a checkpoint of another version of the program",
    tests: [
      "tests/train/checkpoint/earlier_version_test.ts > a checkpoint of version 0.1 continues with the losses",
      "tests/train/checkpoint/earlier_version_test.ts > what a later version writes is refused",
    ],
  },
];
