/** Kernels: arithmetic, edges, storage types, and variants that only some devices run. */
import type { Bugs } from "./bug.ts";

const attention = "tests/kernels/attention/attention_test.ts";
const gemm = "tests/kernels/matrix/gemm_test.ts";
const packed = "tests/kernels/matrix/packed_test.ts";
const conv = "tests/kernels/matrix/conv_test.ts";
const flat = "tests/kernels/rows/flat_test.ts";
const group = "tests/kernels/norm/group_test.ts";
const head = "tests/kernels/norm/head_test.ts";
const layer = "tests/kernels/norm/layer_test.ts";

/** Bugs of `kernels/`, optimizers apart. */
export const kernelBugs: Bugs = {
  "slope of GELU without its cube": {
    file: "kernels/rows/flat.ts",
    from: "(1.0 + 0.134145 * c * c)",
    to: "(1.0 + 0.044715 * c * c)",
    tests: flat,
  },
  "exp of SiLU overflows": {
    file: "kernels/rows/flat.ts",
    from: "let c = clamp(x, vec4f(-80), vec4f(80));\n  let e = exp(-c);",
    to: "let c = x;\n  let e = exp(-c);",
    tests: flat,
  },
  "bf16 rounded towards zero": {
    file: "kernels/core/accessors.ts",
    from: "(b + 0x7fffu + ((b >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u)",
    to: "b >> vec4u(16u)",
    tests: flat,
  },
  "NaN of bf16 may become infinity": {
    file: "kernels/core/accessors.ts",
    from: "(b >> vec4u(16u)) | vec4u(0x40u)",
    to: "(b >> vec4u(16u))",
    tests: "tests/kernels/nan_test.ts",
  },
  "pieces of a tensor found one vector late": {
    file: "kernels/core/accessors.ts",
    from: "if (i < ${starts[p]})",
    to: "if (i <= ${starts[p]})",
    tests: "tests/plan/pieces_test.ts tests/ops/pieces_test.ts",
  },
  "rows of a folded grid taken for full": {
    file: "kernels/core/wgsl.ts",
    from: "workgroup_id.y * num_workgroups.x + workgroup_id.x",
    to: "workgroup_id.y * 65535u + workgroup_id.x",
    tests: "tests/kernels/grid_test.ts",
  },
  "gates of text and video exchanged": {
    file: "kernels/rows/by_row.ts",
    from: "select(params.gate_video4, params.gate_text4, text)",
    to: "select(params.gate_text4, params.gate_video4, text)",
    tests: flat,
  },
  "rotation the wrong way back": {
    file: "kernels/norm/head_text.ts",
    from: "-sine.${half(j)})`;",
    to: "sine.${half(j)})`;",
    tests: head,
  },
  "rotation transposed": {
    file: "kernels/norm/head_text.ts",
    from: "v.x * c.x - v.y * s.x, v.x * s.x + v.y * c.x",
    to: "v.x * c.x + v.y * s.x, v.y * c.x - v.x * s.x",
    tests: head,
  },
  "text rows rotated": {
    file: "kernels/norm/head_text.ts",
    from: "let video = n >= params.text_rows;",
    to: "let video = n + 1u >= params.text_rows;",
    tests: head,
  },
  "lanes added in another order without subgroups": {
    file: "kernels/reduce/lanes.ts",
    from: "(slots[at] + slots[at + 1u]) + (slots[at + 2u] + slots[at + 3u])",
    to: "((slots[at] + slots[at + 1u]) + slots[at + 2u]) + slots[at + 3u]",
    tests: "tests/kernels/reduce/reduce_test.ts tests/kernels/norm/layer_test.ts",
  },
  "layer norm without epsilon in octets": {
    file: "kernels/norm/layer_octets.ts",
    from:
      '  let rs = inverseSqrt(square * params.inverse_width + params.eps);\n${\n      columns(\n        `${affine("c")}\\n` + each((i) =>\n          `    if (live${i}) {\n      let at = row${i} * params.width4 + c;\n      store_y(at, (load_x',
    to:
      '  let rs = inverseSqrt(square * params.inverse_width);\n${\n      columns(\n        `${affine("c")}\\n` + each((i) =>\n          `    if (live${i}) {\n      let at = row${i} * params.width4 + c;\n      store_y(at, (load_x',
    tests: layer,
  },
  "wide rows read past their end": {
    file: "kernels/norm/layer_wide.ts",
    from: "let inside = c${last} < params.width4;",
    to: "let inside = c${last} <= params.width4;",
    tests: layer,
  },
  "mean of wide rows without its origin": {
    file: "kernels/norm/layer_wide.ts",
    from: "let mean = near + ${packed((i) => `o${i}`)};",
    to: "let mean = near;",
    tests: layer,
  },
  "last text group reads video rows": {
    file: "kernels/norm/rows.ts",
    from: "let end = select(params.sequence, params.text_rows, text);",
    to: "let end = params.sequence;",
    tests: layer,
  },
  "scale of a norm without the shift's part": {
    file: "kernels/norm/layer_parameters.ts",
    from: "gamma * s2 + beta * s1",
    to: "gamma * s2",
    tests: layer,
  },
  "group norm of the sample variance": {
    file: "kernels/norm/group.ts",
    from: "inverseSqrt(m2 / (params.positions * channels) + params.eps)",
    to: "inverseSqrt(m2 / (params.positions * channels - 1.0) + params.eps)",
    tests: group,
  },
  "merged parts weighed alike": {
    file: "kernels/norm/group.ts",
    from: "mean += distance * (added / total);",
    to: "mean += distance * 0.5;",
    tests: group,
  },
  "first latent frame shared by all": {
    file: "kernels/norm/group.ts",
    from: "params.frames > 1u && params.frames % 2u == 1u",
    to: "false",
    tests: group,
  },
  "scores past the last key count": {
    file: "kernels/attention/octet_forward.ts",
    from: "key${t} <= last);",
    to: "key${t} <= last + 1u);",
    tests: attention,
    filter: "forward of variant octets 16",
  },
  "maximum of the softmax left out, a thread per query": {
    file: "kernels/attention/plain.ts",
    from: "let top = max(m, s);",
    to: "let top = 0.0;",
    tests: attention,
    filter: "neither overflow nor vanish",
  },
  "maximum of the softmax left out, octets": {
    file: "kernels/attention/octet_forward.ts",
    from: "let top = max(m${i}, x);",
    to: "let top = 0.0;",
    tests: attention,
    filter: "neither overflow nor vanish",
  },
  "gradient of keys without the scale": {
    file: "kernels/attention/plain.ts",
    from: "`params.scale * dk_${c}`",
    to: "`dk_${c}`",
    tests: attention,
    filter: "backward of variant plain",
  },
  "relative distances mirrored": {
    file: "kernels/attention/plain.ts",
    from: "(j + params.sequence - 1u - row)",
    to: "(row + params.sequence - 1u - j)",
    tests: attention,
    filter: "forward of variant plain",
  },
  "statistics of heads overlap": {
    file: "kernels/attention/shape.ts",
    from: "head * ((params.sequence + 3u) / 4u * 4u)",
    to: "head * params.sequence",
    tests: attention,
    filter: "variant plain",
  },
  "last depths of a product left out": {
    file: "kernels/matrix/gemm_register.ts",
    from: "let k_end = min(k_first + params.depth, params.k4);",
    to: "let k_end = min(k_first + params.depth, params.k4 - select(0u, 1u, params.k4 > 9u));",
    tests: gemm,
    filter: "variant plain",
  },
  "depths past the end of a transposed product": {
    file: "kernels/matrix/gemm_register.ts",
    from: "${depth(q)} < params.k);`,",
    to: "${depth(q)} < params.k + 4u);`,",
    tests: gemm,
    filter: "variant plain",
  },
  "bias before the scale": {
    file: "kernels/matrix/gemm_launch.ts",
    from: '"var v = params.alpha * sum;",\n    bias === undefined ? "" : "v = v + shift;",',
    to: 'bias === undefined ? "var v = params.alpha * sum;" : "var v = params.alpha * (sum + shift);",',
    tests: gemm,
    filter: "variant plain",
  },
  "last part of a long depth left out": {
    file: "kernels/matrix/gemm_launch.ts",
    from: "part < params.parts; part++",
    to: "part + 1u < params.parts; part++",
    tests: gemm,
    filter: "variant plain",
  },
  "columns past the edge of staged tiles": {
    file: "kernels/matrix/gemm_staged.ts",
    from: "if (column < ${bounds.columns4}) {",
    to: "if (column <= ${bounds.columns4}) {",
    tests: gemm,
    filter: "variant staged",
  },
  "barrier behind a single stage left out": {
    file: "kernels/matrix/gemm_staged.ts",
    from: '"buffer = 1u - buffer;" : "workgroupBarrier();"',
    to: '"buffer = 1u - buffer;" : ""',
    tests: packed,
  },
  "convolution padded below instead of above": {
    file: "kernels/matrix/conv_gather.ts",
    from: "let tap_y = i32(dy) - i32(params.padding);",
    to: "let tap_y = i32(dy);",
    tests: conv,
  },
  "doubled frames begin one late": {
    file: "kernels/matrix/conv_gather.ts",
    from: "+ params.time_offset) >> params.time_shift;`);",
    to: ") >> params.time_shift;`);",
    tests: conv,
  },
  "codes of 8 bits without sign": {
    file: "kernels/matrix/dequantise.ts",
    from: "extractBits(i32(word), ${8 * i}u, 8u)",
    to: "extractBits(word, ${8 * i}u, 8u)",
    tests: "tests/kernels/matrix/dequantise_test.ts",
  },
  "scale of the next block": {
    file: "kernels/matrix/dequantise.ts",
    from: "let block = gid / params.words_per_block;",
    to: "let block = (gid + 1u) / params.words_per_block;",
    tests: "tests/kernels/matrix/dequantise_test.ts",
  },
  "half of the pairs of a patch exchanged": {
    file: "kernels/rows/patch.ts",
    from: "return select(v.xy, v.zw, i % 2u == 1u); }`;",
    to: "return select(v.xz, v.yw, i % 2u == 1u); }`;",
    tests: "tests/kernels/rows/patch_test.ts",
  },
  "what is kept by dropout not scaled": {
    file: "kernels/rows/dropout.ts",
    from: "1 / (1 - rate)]",
    to: "1]",
    tests: "tests/kernels/rows/dropout_test.ts",
  },
  "velocity with the sign of the noise": {
    file: "kernels/diffusion/velocity.ts",
    from: "k.x * noise - k.y * z",
    to: "k.y * z - k.x * noise",
    tests: "tests/kernels/diffusion/velocity_test.ts",
  },
  "weights of samples not in the loss": {
    file: "kernels/diffusion/velocity.ts",
    from: "store_partials(wg, total * k.w);",
    to: "store_partials(wg, total);",
    tests: "tests/kernels/diffusion/velocity_test.ts",
  },
  "guidance around the positive prompt": {
    file: "kernels/diffusion/sampler_step.ts",
    from: "negative + k.z * (positive - negative)",
    to: "positive + k.z * (positive - negative)",
    tests: "tests/kernels/diffusion/sampler_step_test.ts",
  },
  "norms of DoRA without the squares of the update": {
    file: "kernels/rows/dora.ts",
    from: "(params.twice * load_cross(at) + params.squared * load_square(at))",
    to: "(params.twice * load_cross(at))",
    tests: "tests/ops/cases_test.ts",
    filter: "norms of adapted rows",
  },
};
