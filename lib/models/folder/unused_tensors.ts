/** What a model folder holds beyond the model: harmless, but said, because a config may have been meant otherwise. */
import { join } from "node:path";
import { openShards } from "../../io/safetensors/shards.ts";
import { EMBEDDINGS, t5ParameterShapes } from "../t5/config.ts";
import { openTextEncoderWeights } from "../t5/encoder.ts";
import { someNames } from "../tensors/some_names.ts";
import { unusedTensors } from "../tensors/weights.ts";
import { parameterShapes, positionTableShape } from "../transformer/config.ts";
import { vaeParameterShapes } from "../vae/config.ts";
import { openVaeWeights } from "../vae/vae.ts";
import type { ModelFolder } from "./model_folder.ts";

/** One line for each part of a model that passed its checks and holds tensors without use; no weight is read. */
export function describeUnused({ path, transformer, vae }: ModelFolder): string[] {
  using weights = openShards(join(path, "transformer"), "diffusion_pytorch_model");
  using autoencoder = openVaeWeights(path);
  using encoder = openTextEncoderWeights(path);
  const none: readonly number[] = [];
  const table = positionTableShape(transformer);
  const parts = [
    ["transformer", weights, new Map([...parameterShapes(transformer), [table?.name ?? "", none]])],
    ["vae", autoencoder.source, vaeParameterShapes(vae)],
    [
      "text_encoder",
      encoder.source,
      new Map([...t5ParameterShapes(encoder.config), ...EMBEDDINGS.map((name) => [name, none] as const)]),
    ],
  ] as const;
  return parts.flatMap(([part, source, shapes]) => {
    const names = [...unusedTensors(source, shapes).unused, ...(source.unstored ?? [])];
    return names.length === 0 ? [] : [`${part}: not used, as the model has no such tensors: ${someNames(names)}`];
  });
}
