/** Faults of the GPU, its driver and engine, and of the memory of the machine. */
import type { Fault } from "./catalogue.ts";

const ENGINE = "tests/gpu/engine_errors_test.ts";
const LOST = "tests/train/faults/lost_gpu_test.ts";
const LAUNCHER = "tests/comm/launch/launcher_test.ts";
const HOST = "tests/forecast/require_host_memory_test.ts";

/** The GPU (GP) and the memory of the host (HM). */
export const machine: readonly Fault[] = [
  {
    id: "GP1",
    fault: "no adapter",
    tests: [
      "tests/bad_input/machine_test.ts > train without a GPU driver names the package that brings one",
      "tests/gpu/engine_test.ts > a named engine is taken, or its lack is reported",
    ],
  },
  {
    id: "GP2",
    fault: "a software driver alone",
    tests: [
      `${ENGINE} > a device says in its title that a software driver computes`,
      "tests/cli/machine/machine_test.ts > doctor describes a sound machine",
    ],
  },
  {
    id: "GP3",
    fault: "limits and features that a card lacks",
    tests: [
      "tests/gpu/device_test.ts > buffers keep to 240 MiB",
      "tests/plan/pieces_test.ts > a launch with more pieces than a device binds is refused",
      "tests/step/pieces_test.ts > in pieces of",
      "tests/kernels/attention/attention_test.ts > devices run the passes with the variants made for them",
    ],
  },
  {
    id: "GP4",
    fault: "a GPU that is lost in a step",
    tests: [`${LOST} > costs that step alone`, "tests/gpu/lost_device_test.ts > reading from a lost GPU"],
  },
  { id: "GP5", fault: "a GPU that is lost while a checkpoint reads from it", tests: [`${LOST} > in the save`] },
  {
    id: "GP6",
    fault: "more GPU memory wanted than there is",
    tests: [
      "tests/forecast/require_memory_test.ts > is refused with less before it leaves a trace",
      "tests/gpu/budget_test.ts > what does not fit gpu_memory is refused by name and number",
      "tests/cli/commands/plan_report_test.ts > a run that does not fit is refused with the switches that help",
    ],
  },
  {
    id: "GP7",
    fault: "memory of the GPU that runs out after the call that asked for it",
    tests: [`${ENGINE} > memory that runs out late ends the run at the next result`],
  },
  {
    id: "GP8",
    fault: "a kernel that the engine refuses",
    tests: [`${ENGINE} > is named with its line when its result is wanted`],
  },
  {
    id: "GP9",
    fault: "a GPU that hangs, or a kernel without end",
    tests: [
      `${LAUNCHER} > a stopped rank is named within ten seconds`,
      "tests/cli/commands/train_command_test.ts > the first signal lets the trainer save, the second ends at once",
      `${LOST} > costs that step alone`,
    ],
    instead:
      "The software driver cannot hang: tests stop the whole process. A driver that resets a hung card loses the device.",
  },
  {
    id: "GP10",
    fault: "a driver that takes the process down",
    tests: [
      `${LAUNCHER} > one that crashes before does`,
      "tests/train/launch/ranks_test.ts > a rank that is killed is named, and the last checkpoint is whole",
    ],
  },
  {
    id: "GP11",
    fault: "two ranks on one card",
    tests: [
      "tests/comm/gpus/gpus_test.ts > every rank gets a card of its own",
      "tests/comm/gpus/gpus_test.ts > what can't be done is refused with what to do",
      "tests/comm/gpus/placement_test.ts > names ranks on a foreign card and those they share it with",
    ],
  },
  {
    id: "GP12",
    fault: "another card, driver, engine or version than the checkpoint was computed with",
    tests: [
      "tests/train/checkpoint/machine_test.ts > a run goes on with another driver or version",
      "tests/train/checkpoint/machine_test.ts > card, engine, driver and versions each count",
    ],
  },
  {
    id: "HM1",
    fault: "a machine with less memory than the run keeps there",
    tests: [
      `${HOST} > what is asked of the machine is what a run allocates there`,
      `${HOST} > nine tenths of the free memory may be taken`,
      `${HOST} > ranks of one machine are added up`,
      `${HOST} > a whole run is refused by the memory that is free`,
    ],
  },
  {
    id: "HM2",
    fault: "a container that allows less than the machine has, and a process that is killed for it",
    tests: [
      `${HOST} > a container that allows less than is free counts`,
      `${LAUNCHER} > a killed rank is named by all others`,
    ],
  },
  {
    id: "HM3",
    fault: "memory that is refused when it is asked for",
    tests: [
      `${HOST} > memory that is refused when it is asked for`,
      "tests/comm/launch/refused_test.ts > memory that the machine lacks is refused",
    ],
  },
  {
    id: "HM4",
    fault: "memory that grows from step to step",
    tests: [
      "tests/reliability/long_run_test.ts > stay flat over 20,000 steps",
      "tests/train/steady_memory_test.ts > has the GPU bytes of the first",
    ],
  },
  {
    id: "HM5",
    fault: "memory that is swapped, or a disk that has become slow",
    tests: ["tests/train/checks/unusual_steps_test.ts > is told with the parts of its time"],
  },
  {
    id: "HM6",
    fault: "offloaded state that is damaged",
    tests: [
      "tests/train/faults/broken_state_test.ts > a second moment of adapters in host memory",
      "tests/optim/broken_state_test.ts > an update tells of a state that is not finite",
    ],
    instead: "What is offloaded lies in the memory of the host, and never in a file that could be damaged.",
  },
];
