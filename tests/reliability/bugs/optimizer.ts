/** Optimizers, schedules, loss scale and averages. */
import type { Bugs } from "./bug.ts";

const adam = "tests/kernels/optimizer/adam_test.ts";
const adamBf16 = "tests/kernels/optimizer/adam_bf16_test.ts";
const came = "tests/kernels/optimizer/came_test.ts";
const prodigy = "tests/kernels/optimizer/prodigy_test.ts";
const rates = "tests/optim/learning_rate_test.ts";
const scale = "tests/optim/loss_scale_test.ts";

/** Bugs of `lib/optim` and `kernels/optimizer`. */
export const optimizerBugs: Bugs = {
  "warm-up one step early": {
    file: "lib/optim/learning_rate.ts",
    from: "return step / Math.max(1, warmupSteps)",
    to: "return (step + 1) / Math.max(1, warmupSteps)",
    tests: rates,
  },
  "cosine over twice the steps": {
    file: "lib/optim/learning_rate.ts",
    from: "return halfCosine(progress);",
    to: "return halfCosine(progress / 2);",
    tests: rates,
  },
  "learning rate too high by a thousandth": {
    file: "kernels/optimizer/adam.ts",
    from: "    learningRate / (1 - beta1 ** step),\n",
    to: "    1.001 * learningRate / (1 - beta1 ** step),\n",
    tests: adam,
  },
  "bias correction off by one step": {
    file: "kernels/optimizer/adam.ts",
    from: "1 / Math.sqrt(1 - beta2 ** step)",
    to: "1 / Math.sqrt(1 - beta2 ** (step + 1))",
    tests: adam,
  },
  "weight decay in the gradient of AdamW": {
    file: "kernels/optimizer/adam.ts",
    from: 'kind === "adam" ? " + params.decay * p" : ""',
    to: '" + params.decay * p"',
    tests: adam,
  },
  "gradients clipped by each value of the norm": {
    file: "kernels/optimizer/adam.ts",
    from: "min(1.0, params.max_norm / (norm + 1e-6))",
    to: "params.max_norm / (norm + 1e-6)",
    tests: adam,
  },
  "norm of the scaled gradient": {
    file: "kernels/optimizer/adam.ts",
    from: "let norm = sqrt(squares) * inverse_scale;",
    to: "let norm = sqrt(squares);",
    tests: adam,
  },
  "NaN of the loss not looked for": {
    file: "kernels/optimizer/adam.ts",
    from: "non_finite(vec4f(squares, load_loss(0u).x, 0, 0))",
    to: "non_finite(vec4f(squares, 0, 0, 0))",
    tests: `${adam} tests/step/poison_test.ts`,
  },
  "NaN looked for by comparison": {
    file: "kernels/core/wgsl.ts",
    from: "any((bitcast<vec4u>(v) & vec4u(0x7f800000u)) == vec4u(0x7f800000u))",
    to: "any(v != v)",
    tests: `${adam} tests/step/poison_test.ts`,
  },
  "averages move in skipped steps": {
    file: "kernels/optimizer/average.ts",
    from: "gid < params.count4 && control.z == 0.0",
    to: "gid < params.count4 && control.z < 9.0",
    tests: "tests/kernels/optimizer/average_test.ts tests/optim/update_test.ts",
  },
  "averages start at zero": {
    file: "lib/optim/average.ts",
    from: "session.write(average, new Uint8Array(masters!));",
    to: "session.write(average, new Uint8Array(masters!.byteLength));",
    tests: "tests/optim/update_test.ts",
  },
  "averages not saved": {
    file: "lib/optim/update.ts",
    from: ", ...averages.map((tensor) => [tensor.name, tensor] as const)",
    to: "",
    tests: "tests/train/trainer_test.ts",
    filter: "resumed",
  },
  "host's norm of the scaled gradient": {
    file: "lib/optim/update.ts",
    from: "Math.sqrt(squares) / lossScale",
    to: "Math.sqrt(squares)",
    tests: "tests/optim/host_norm_test.ts",
  },
  "first buckets alone in the norm": {
    file: "lib/optim/update.ts",
    from: "    slot += slots[i]!;\n",
    to: "",
    tests: "tests/optim/update_test.ts",
  },
  "stochastic rounding always up": {
    file: "kernels/optimizer/adam_bf16.ts",
    from: "(b + (draw(key) >> vec4u(16u)))",
    to: "(b + vec4u(0xffffu))",
    tests: adamBf16,
  },
  "buckets rounded by the same draws": {
    file: "kernels/optimizer/adam_bf16.ts",
    from: "vec4u(at, update, seed, params.bucket)",
    to: "vec4u(at, update, seed, 0u)",
    tests: `${adamBf16} tests/optim/adam_bf16_test.ts`,
  },
  "Kahan compensation with the wrong sign": {
    file: "kernels/optimizer/adam_bf16.ts",
    from: "let rest = y - (t - p);",
    to: "let rest = (t - p) - y;",
    tests: adamBf16,
  },
  "infinite second moments go unseen": {
    file: "kernels/optimizer/adam.ts",
    from: "        watch(v, control);\n",
    to: "",
    tests: "tests/optim/broken_state_test.ts",
    filter: "adamw: an update",
  },
  "squares beyond f32 pass on the host": {
    file: "lib/optim/update.ts",
    from: "Number.isFinite(Math.fround(squares))",
    to: "Number.isFinite(squares)",
    tests: "tests/optim/broken_state_test.ts",
    filter: "finite gradients",
  },
  "second moments of 8 bits become zero": {
    file: "kernels/optimizer/adam_8bit.ts",
    from: "select(vec4f(0), vec4f(1), root > vec4f(0))",
    to: "vec4f(0)",
    tests: "tests/kernels/optimizer/adam_8bit_codes_test.ts",
  },
  "moments of 8 bits rounded to nearest": {
    file: "kernels/optimizer/adam_8bit.ts",
    from: "let chance = draw(at, g);",
    to: "let chance = vec4f(0.5);",
    tests: "tests/kernels/optimizer/adam_8bit_codes_test.ts",
  },
  "CAME's update not limited": {
    file: "kernels/optimizer/came.ts",
    from: " / max(1.0, sqrt(load_mean_square(0u).x));",
    to: ";",
    tests: came,
  },
  "CAME's vectors not limited": {
    file: "kernels/optimizer/came_vector.ts",
    from: "max(1.0, sqrt(load_mean_square(0u).x))",
    to: "1.0",
    tests: came,
  },
  "CAME's patches trusted by rows alone": {
    file: "kernels/optimizer/came_patch.ts",
    from: " * inverseSqrt(f.zwzw);",
    to: ";",
    tests: "tests/optim/update_test.ts",
    filter: "came",
  },
  "CAME's confidence decays like the moment": {
    file: "kernels/optimizer/came.ts",
    from: "const decay = squares ? beta2 : beta3;",
    to: "const decay = squares ? beta2 : beta2;",
    tests: came,
  },
  "Prodigy's distance shrinks": {
    file: "kernels/optimizer/prodigy.ts",
    from: "max(distance.x, numerator / total.y)",
    to: "numerator / total.y",
    tests: prodigy,
  },
  "Prodigy learns in steps of rate 0": {
    file: "kernels/optimizer/prodigy.ts",
    from: "control.z == 0.0 && state.x > 0.0",
    to: "control.z == 0.0",
    tests: prodigy,
  },
  "loss scale never doubled": {
    file: "lib/optim/loss_scale.ts",
    from: "      this.value *= 2;\n",
    to: "",
    tests: scale,
  },
  "good steps counted across an overflow": {
    file: "lib/optim/loss_scale.ts",
    from: "      this.value = Math.max(1, this.value / 2);\n      this.goodSteps = 0;\n",
    to: "      this.value = Math.max(1, this.value / 2);\n",
    tests: scale,
  },
  "loss scale below 1": {
    file: "lib/optim/loss_scale.ts",
    from: "Math.max(1, this.value / 2)",
    to: "this.value / 2",
    tests: scale,
  },
  "warm restarts count one too many": {
    file: "lib/optim/learning_rate.ts",
    from: "halfCosine((options.cycles * progress) % 1)",
    to: "halfCosine(((options.cycles + 1) * progress) % 1)",
    tests: rates,
  },
};
