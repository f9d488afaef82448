/** Runs a stored text encoder case and measures how far embeddings and block outputs are from the stored ones. */
import { Session } from "../../../lib/gpu/session.ts";
import { openTextEncoder } from "../../../lib/models/t5/encoder.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { Golden } from "../golden.ts";
import type { Distance } from "../transformer/case.ts";

/** Prompts of a golden file as ids. */
export function goldenPrompts(golden: Golden): Int32Array[] {
  const [count, tokens] = golden.shape("ids") as [number, number];
  const ids = Int32Array.from(golden.integers("ids"));
  return Array.from({ length: count }, (_, i) => ids.slice(i * tokens, (i + 1) * tokens));
}

/** The prompt whose block outputs are stored. */
const TRACED = 2;

/** Encodes the prompts of the golden file `file` with the weights of `model`, a model folder. */
export async function runTextEncoder(model: string, file: string): Promise<Distance[]> {
  const { device } = await testDevice();
  using session = new Session(device);
  using golden = new Golden(file);
  using encoder = openTextEncoder(session, model);
  const prompts = goldenPrompts(golden);
  const stored = golden.f32("embeddings");
  const size = stored.length / prompts.length;
  const distances = (await encoder.encode(prompts)).map((rows, i): Distance => ({
    what: `prompt ${i}`,
    error: relativeL2(rows, stored.subarray(i * size, (i + 1) * size)),
  }));
  await encoder.encode([prompts[TRACED]!], async (block, hidden) => {
    distances.push({ what: `block ${block}`, error: relativeL2(await hidden(), golden.f32(`block.${block}`)) });
  });
  return distances;
}
