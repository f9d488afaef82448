/** What the steps of a run are made with. */
import type { Communicator } from "../comm/exchange/communicator.ts";
import type { TrainConfig } from "../config/config.ts";
import type { Device } from "../gpu/device.ts";
import type { ModelConfigs } from "../models/folder/model_folder.ts";
import type { RunDescription } from "../step/run_description.ts";
import type { Peaks } from "../tune/table.ts";
import type { RunInputs, RunKernels, RunMachine } from "./checkpoint/checkpoint.ts";
import type { OutputFolder } from "./checkpoint/output_folder.ts";
import type { HeldOut } from "./checks/held_out.ts";
import type { Validation } from "./checks/validation.ts";
import type { TrainingData } from "./data/prepare_data.ts";
import type { StepProfiler } from "./profile/step_profiler.ts";
import type { PhaseMemory } from "./report/phase_memory.ts";

/** A run with everything checked, encoded and open. */
export interface PreparedRun {
  readonly device: Device;
  readonly config: TrainConfig;
  readonly model: ModelConfigs;
  readonly run: RunDescription;
  readonly data: TrainingData;
  readonly validation: Validation | undefined;
  readonly heldOut: HeldOut | undefined;
  readonly communicator: Communicator;
  /** Set on the first rank, which writes to it. */
  readonly output: OutputFolder | undefined;
  /** Measured kernels that the device has been given. */
  readonly kernels: RunKernels | undefined;
  /** Ceilings of the card, on the first rank where they were measured. */
  readonly peaks: Peaks | undefined;
  /** Set where `profile` asks for it, on the first rank. */
  readonly profiler: StepProfiler | undefined;
  /** Of the first rank. */
  readonly memory: PhaseMemory | undefined;
  readonly inputs: RunInputs | undefined;
  readonly machine: RunMachine;
}
