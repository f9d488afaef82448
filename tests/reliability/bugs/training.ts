/** The step and the loop: accumulation, exchange, resuming, what is measured and kept. */
import type { Bugs } from "./bug.ts";

const step = "tests/step/training_step_test.ts";
const resume = "tests/train/trainer_test.ts";
const heldOut = "tests/train/checks/held_out_test.ts";
const half = "tests/train/checkpoint/half_precision_test.ts";

/** Bugs of `lib/step` and `lib/train`, data apart. */
export const trainingBugs: Bugs = {
  "accumulated gradients not divided": {
    file: "lib/step/training_step.ts",
    from: "lossScale / this.config.accumulation",
    to: "lossScale",
    tests: step,
  },
  "gradients of the step before kept": {
    file: "lib/step/training_step.ts",
    from: "this.session.clear([...this.buckets.map(({ gradients }) => gradients), this.recording.loss]);",
    to: "this.session.clear([this.recording.loss]);",
    tests: step,
  },
  "loss of the step before kept": {
    file: "lib/step/training_step.ts",
    from: "this.session.clear([...this.buckets.map(({ gradients }) => gradients), this.recording.loss]);",
    to: "this.session.clear(this.buckets.map(({ gradients }) => gradients));",
    tests: "tests/step/poison_test.ts",
  },
  "loss of the last micro-batch for all": {
    file: "lib/step/training_step.ts",
    from: "this.session.copy(loss, losses, this.#microBatches++ * loss.bytes);",
    to: "this.session.copy(loss, losses, 0 * this.#microBatches++);",
    tests: step,
  },
  "weights of samples not in the gradient": {
    file: "lib/step/training_step.ts",
    from: "gradientScale * weight, weight];",
    to: "gradientScale / batch.alphas.length, weight];",
    tests: "tests/step/weights_test.ts",
  },
  "batches of several GPUs summed as of one": {
    file: "lib/step/run_description.ts",
    from: "config.gradient_accumulation_steps * config.gpus",
    to: "config.gradient_accumulation_steps",
    tests: "tests/step/run_description_test.ts tests/train/launch/ranks_test.ts",
  },
  "canonical gradients not cleared between micro-batches": {
    file: "lib/step/exchange.ts",
    from: "      session.clear(gradients);\n",
    to: "",
    tests: "tests/train/launch/ranks_test.ts",
  },
  "norm of one rank's shard": {
    file: "lib/step/exchange.ts",
    from: "parts.reduce((total, [part]) => total + part!, 0)",
    to: "parts[0]![0]! + 0 * parts.length",
    tests: "tests/train/launch/ranks_test.ts",
  },
  "read groups begin full": {
    file: "lib/step/exchange.ts",
    from: "      room = READ_BYTES - tensor.bytes;\n",
    to: "      room = READ_BYTES;\n",
    tests: "tests/step/exchange_test.ts",
  },
  "working copies of the start not made": {
    file: "lib/train/training_loop.ts",
    from: "    await refreshCopies(this.#session, run);\n",
    to: "",
    tests: "tests/step/variants_test.ts",
    filter: "2b in fp16",
  },
  "resume without optimizer state": {
    file: "lib/train/checkpoint/state_entries.ts",
    from: "return [...masters, ...states].map(",
    to: "return masters.map(",
    tests: resume,
    filter: "resumed",
  },
  "resume counts skipped steps as applied": {
    file: "lib/train/training_loop.ts",
    from: "this.#applied = state.applied;",
    to: "this.#applied = state.step;",
    tests: half,
  },
  "resume with the first loss scale": {
    file: "lib/train/training_loop.ts",
    from: 'this.#scale = new LossScale(config.mixed_precision === "fp16", state.lossScale);',
    to: 'this.#scale = new LossScale(config.mixed_precision === "fp16", undefined);',
    tests: half,
  },
  "good steps of the loss scale not saved": {
    file: "lib/train/training_loop.ts",
    from: "goodSteps: this.#scale.goodSteps }",
    to: "goodSteps: 0 }",
    tests: half,
  },
  "skipped steps counted over the whole run": {
    file: "lib/train/training_loop.ts",
    from: "    this.#skips.made();\n",
    to: "",
    tests: "tests/train/checks/skipped_steps_test.ts",
    filter: "never twenty in a row",
  },
  "masters of other shapes restored": {
    file: "lib/train/checkpoint/checkpoint.ts",
    from: "else if (`${found.shape}` !== `${shape}`) {",
    to: "else if (found.shape.length !== shape.length) {",
    tests: "tests/train/checkpoint/checkpoint_test.ts",
  },
  "gradients that stand out go untold": {
    file: "lib/train/checks/unusual_steps.ts",
    from: "gradNorm > SPIKE * norm",
    to: "gradNorm > SPIKE * SPIKE * norm",
    tests: "tests/train/checks/unusual_steps_test.ts",
    filter: "norm above ten times",
  },
  "another driver goes untold": {
    file: "lib/train/checkpoint/run_machine.ts",
    from: "machine[part] !== current[part]",
    to: "machine[part] === undefined",
    tests: "tests/train/checkpoint/machine_test.ts",
    filter: "each count",
  },
  "state saved whatever it holds": {
    file: "lib/train/checkpoint/checkpoint.ts",
    from: '          if (dtype !== "u32") requireFinite(name, bytes, dtype);\n',
    to: "",
    tests: "tests/train/faults/broken_state_test.ts",
    filter: "replaces nothing",
  },
  "state entries that are left over ignored": {
    file: "lib/train/checkpoint/checkpoint.ts",
    from: "problems.length > 0 || file.tensors.size !== entries.length",
    to: "problems.length > 0",
    tests: "tests/train/checkpoint/checkpoint_test.ts",
  },
  "held-out clips with noise on top": {
    file: "lib/train/checks/held_out.ts",
    from: "      noise_offset: 0,\n",
    to: "",
    tests: heldOut,
  },
  "held-out losses weighed by SNR": {
    file: "lib/train/checks/held_out.ts",
    from: "snr_gamma: _weights, ",
    to: "",
    tests: heldOut,
  },
  "held-out captions dropped": {
    file: "lib/train/checks/held_out.ts",
    from: "      caption_dropout: 0,\n",
    to: "",
    tests: heldOut,
  },
  "held-out images dropped": {
    file: "lib/train/checks/held_out.ts",
    from: "      condition_dropout: 0,\n",
    to: "",
    tests: heldOut,
  },
  "held-out timesteps at the edges of their bands": {
    file: "lib/train/checks/held_out.ts",
    from: "(place % draws + 0.5) * span",
    to: "(place % draws) * span",
    tests: heldOut,
  },
  "a loss that is not finite may be the best": {
    file: "lib/train/checks/best_loss.ts",
    from: "measured.filter(({ loss }) => Number.isFinite(loss))",
    to: "measured",
    tests: "tests/train/checks/best_loss_test.ts",
  },
  "the untrained model kept as the best": {
    file: "lib/train/training_loop.ts",
    from: "bestOf(this.#measured.filter(({ step }) => step > 0))",
    to: "bestOf(this.#measured)",
    tests: "tests/train/checks/best_loss_test.ts",
    filter: "best model is kept",
  },
  "ranks may differ in their settings": {
    file: "lib/train/checks/same_run.ts",
    from: ".filter((key) => facts[key] !== first![key])",
    to: '.filter((key) => key === "dataset" && facts[key] !== first![key])',
    tests: "tests/train/checks/same_run_test.ts",
  },
  "disk space without the checkpoint being written": {
    file: "lib/train/checks/disk.ts",
    from: "checkpointing_limit + 1)",
    to: "checkpointing_limit)",
    tests: "tests/train/checks/disk_test.ts",
    filter: "beside the one that is written",
  },
  "averages forgotten in the size of a checkpoint": {
    file: "lib/train/checks/disk.ts",
    from: "model * (averages.length > 0 ? 2 : 1) + state",
    to: "model + state",
    tests: "tests/train/checks/disk_test.ts",
  },
  "averaged weights saved as trained ones": {
    file: "lib/optim/average.ts",
    from: "return [name, { ...trainable, master: average.window(name, master.byteOffset / 4, shape) }];",
    to: "return [name, { ...trainable, master: average.window(name, 0 * master.byteOffset, shape) }];",
    tests: "tests/step/variants_test.ts tests/optim/update_test.ts",
  },
  "range test moves on to other clips": {
    file: "lib/train/training_loop.ts",
    from: "const step = this.prepared.config.lr_range_test ? 0 : done;",
    to: "const step = done;",
    tests: "tests/optim/rate_range_test.ts",
  },
  "measured kernels of another card resumed": {
    file: "lib/train/kernels.ts",
    from: "if (saved !== undefined && saved.card === card) return saved;",
    to: "if (saved !== undefined) return saved;",
    tests: "tests/train/own_environment_test.ts",
  },
  "variants that compute something else used": {
    file: "lib/tune/trial.ts",
    from: "if (!(distance <= allowed(result, mixed)))",
    to: "if (distance > 1e9 * allowed(result, mixed))",
    tests: "tests/tune/tune_test.ts",
  },
};
