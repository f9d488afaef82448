/** A model whose prediction is known: what surrounds it can then be computed by hand. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromFileUrl } from "./paths.ts";

/** A copy in `folder` of the tiny model that predicts a velocity of zero, whatever it is given; returns its path. */
export function silentModel(folder: string): string {
  const model = join(folder, "model");
  cpSync(fromFileUrl("../examples/tiny-2b", import.meta.url), model, { recursive: true });
  const path = join(model, "transformer", "diffusion_pytorch_model.safetensors");
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, start).toString());
  for (const name of ["proj_out.weight", "proj_out.bias"]) {
    const [from, to] = header[name].data_offsets;
    bytes.fill(0, start + from, start + to);
  }
  writeFileSync(path, bytes);
  return model;
}
