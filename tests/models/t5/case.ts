/** Runs a stored text encoder case and measures how far embeddings and block outputs are from the stored ones. */
import { Session } from "../../../lib/gpu/session.ts";
import { openTextEncoder } from "../../../lib/models/t5/encoder.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { pipelineOf, type ReferenceCase, referencePath } from "../../reference.ts";
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

/** Encodes the prompts of a case. */
export async function runTextEncoder(stored: ReferenceCase): Promise<Distance[]> {
  const { device } = await testDevice();
  using session = new Session(device);
  using golden = new Golden(referencePath(stored.file));
  using encoder = openTextEncoder(session, pipelineOf(stored));
  const prompts = goldenPrompts(golden);
  const embeddings = golden.f32("embeddings");
  const size = embeddings.length / prompts.length;
  const distances = (await encoder.encode(prompts)).map((rows, i): Distance => ({
    what: `prompt ${i}`,
    error: relativeL2(rows, embeddings.subarray(i * size, (i + 1) * size)),
  }));
  await encoder.encode([prompts[TRACED]!], async (block, hidden) => {
    distances.push({ what: `block ${block}`, error: relativeL2(await hidden(), golden.f32(`block.${block}`)) });
  });
  return distances;
}
