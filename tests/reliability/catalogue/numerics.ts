/** Faults of numbers: values that are not finite, gradients, rounding, order of sums, and what a driver makes of them. */
import type { Fault } from "./catalogue.ts";

const POISON = "tests/step/poison_test.ts > a value that is not finite, wherever it is";
const SKIPPED = "tests/train/checks/skipped_steps_test.ts";
const BROKEN = "tests/train/faults/broken_state_test.ts";
const SELF_TEST = "tests/gpu/self_test_test.ts";

/** Numbers (NU). */
export const numerics: readonly Fault[] = [
  {
    id: "NU1",
    fault: "a loss that is NaN or infinite: the step is left out, and clip, timestep and first tensor are named",
    tests: [
      POISON,
      `${SKIPPED} > a run goes on whose steps fail again and again`,
      `${SKIPPED} > a run whose every step was skipped`,
      "tests/train/trainer_test.ts > gives identical bits",
    ],
  },
  {
    id: "NU2",
    fault: "one element of a gradient, a weight, a moment or an average that is not finite beside a finite loss",
    tests: [
      POISON,
      "tests/kernels/optimizer/adam_test.ts > a NaN or infinity in one gradient or in the loss sets the skip flag",
      "tests/optim/broken_state_test.ts > an update tells of a state that is not finite",
      "tests/optim/broken_state_test.ts > finite gradients whose squares are not",
      `${BROKEN} > ends the run in the same step`,
      `${BROKEN} > is found by the save, which replaces nothing`,
      "tests/train/checkpoint/find_test.ts > state of other tensors is refused",
    ],
  },
  {
    id: "NU3",
    fault: "a value that is not finite on one rank alone",
    tests: ["tests/step/poisoned_rank_test.ts > a value of one that is not finite stops both"],
  },
  {
    id: "NU4",
    fault: "a shader compiler that takes away the test for NaN",
    tests: [
      `${SELF_TEST} > the sight of NaN and infinity`,
      "tests/kernels/nan_test.ts > NaN of every pattern stays NaN",
    ],
  },
  {
    id: "NU5",
    fault: "values beyond f16 in scores of attention, activations and the text encoder",
    tests: [
      "tests/kernels/attention/attention_test.ts > scores far below and above zero neither overflow nor vanish",
      "tests/kernels/rows/flat_test.ts > gelu and silu of huge inputs",
      "tests/models/t5/encoder_test.ts > the text encoder matches transformers",
      "tests/data/cache/cache_test.ts > stores no NaN or infinity and names the sample",
    ],
  },
  {
    id: "NU6",
    fault: "a gradient far above those of the steps before",
    tests: [
      "tests/train/checks/unusual_steps_test.ts > a norm above ten times the median",
      "tests/train/checks/unusual_steps_test.ts > a run tells of a spike",
      "tests/optim/host_norm_test.ts > norm, factor on gradients and skip flag",
    ],
  },
  {
    id: "NU7",
    fault: "a factor on the loss of fp16 that has fallen to its least",
    tests: [
      "tests/optim/loss_scale_test.ts > the scale ends at 1",
      `${SKIPPED} > a run whose every step was skipped`,
      `${SKIPPED} > get a hint about it`,
    ],
  },
  {
    id: "NU8",
    fault: "a learning rate of zero, below it, or no number; a warm-up longer than the run",
    tests: [
      "tests/config/rates_test.ts > a learning rate below zero or no number is refused at its key",
      "tests/config/rates_test.ts > a warm-up that the run does not outlast is noted",
      "tests/step/variants_test.ts > a learning rate of zero leaves every weight as it was",
      "tests/optim/learning_rate_test.ts > starts warm-ups at 0",
    ],
  },
  {
    id: "NU9",
    fault: "a kernel whose bits depend on which thread comes first",
    tests: [
      "tests/kernels/deterministic_test.ts > no kernel adds in an order",
      "tests/kernels/deterministic_test.ts > every kernel of a step gives the same bits",
      "tests/train/trainer_test.ts > gives identical bits",
    ],
  },
  {
    id: "NU10",
    fault: "a driver that computes wrongly and says nothing",
    tests: [
      `${SELF_TEST} > is refused by that name`,
      `${SELF_TEST} > a run begins with the test`,
      "tests/tune/tune_test.ts > is refused and reported, never used",
    ],
  },
  {
    id: "NU11",
    fault: "a bit that flips in memory while training",
    tests: [
      `${BROKEN} > ends the run in the same step`,
      `${BROKEN} > makes the next step be skipped by name`,
      "tests/train/faults/tampering_test.ts > every flipped bit of a checkpoint",
      "tests/train/checks/unusual_steps_test.ts > a norm above ten times the median",
    ],
    instead:
      "A flip that leaves a value finite and ordinary shows only where every step is computed twice, which the program does not do.",
  },
  {
    id: "NU12",
    fault: "numbers below the smallest normal one that a driver takes for zero",
    tests: [
      "tests/kernels/deterministic_test.ts > numbers below the smallest normal one",
      "tests/io/safetensors/half_test.ts > all 65536 patterns survive a round trip",
    ],
  },
  {
    id: "NU13",
    fault: "terms of schedules and embeddings computed with too few digits",
    tests: [
      "tests/diffusion/schedule_test.ts > schedule tables equal the library's to 1e-12",
      "tests/optim/learning_rate_test.ts > equals the library's tables to 1e-12",
      "tests/step/training_step_test.ts > reproduces the reference run",
    ],
  },
  {
    id: "NU14",
    fault: "indices and sizes beyond what 32 bits, a grid or a binding hold",
    tests: [
      "tests/kernels/grid_test.ts > a folded grid has a place for every workgroup",
      "tests/plan/pieces_test.ts > an owner beyond the largest buffer is stored in pieces",
      "tests/step/pieces_test.ts > in pieces of",
      "tests/forecast/presets_memory_test.ts > validation included",
    ],
  },
];
