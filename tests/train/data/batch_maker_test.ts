/** A micro-batch that is made ahead is taken for its own number alone. */
import assert from "node:assert/strict";
import type { CachedTensor } from "../../../lib/data/cache/cache.ts";
import type { MicroStep } from "../../../lib/data/random/sampler.ts";
import { UserError } from "../../../lib/errors.ts";
import type { Device } from "../../../lib/gpu/device.ts";
import { RELEASED } from "../../../lib/models/transformer/config.ts";
import { RELEASED_VAE } from "../../../lib/models/vae/config.ts";
import { parseConfig } from "../../../lib/config/config.ts";
import { BatchMaker } from "../../../lib/train/data/batch_maker.ts";
import type { BatchSource } from "../../../lib/train/data/batches.ts";

const device = { span: (_: string, __: number, work: () => unknown) => work() } as unknown as Device;

/** A source of one clip; `read` gives its entries. */
function sourceOf(read: () => CachedTensor | undefined): BatchSource {
  return {
    config: parseConfig("model: tiny-2b"),
    model: RELEASED["tiny-2b"]!,
    vae: RELEASED_VAE,
    cache: { read } as unknown as BatchSource["cache"],
    samples: [{ variants: [], latent: { kind: "latent", name: "a clip" } }] as unknown as BatchSource["samples"],
    alphas: new Float64Array(1000).fill(0.5),
  };
}

const micro = (number: number): MicroStep => ({ number, sync: true, items: [{ index: 0, globalIndex: number }] });

Deno.test("the batch made ahead is the one that would be made, and no other step takes it", () => {
  const posterior = { shape: [32, 3, 2, 2], data: new Float32Array(32 * 3 * 4) };
  const maker = new BatchMaker(device, sourceOf(() => posterior));
  const [third, fourth] = [maker.take(micro(3)), maker.take(micro(4))];
  assert.notDeepEqual(third.noise, fourth.noise);
  maker.makeAhead(micro(3));
  assert.deepEqual(maker.take(micro(3)), third);
  maker.makeAhead(micro(3));
  assert.deepEqual(maker.take(micro(4)), fourth);
  assert.deepEqual(maker.take(micro(3)), third);
});

Deno.test("an error while a batch is made ahead is met by the step that takes it", () => {
  const maker = new BatchMaker(device, sourceOf(() => undefined));
  maker.makeAhead(micro(3));
  assert.throws(() => maker.take(micro(3)), UserError);
  const broken = new BatchMaker(
    device,
    sourceOf(() => {
      throw new TypeError("a fault of the program");
    }),
  );
  assert.throws(() => broken.makeAhead(micro(3)), TypeError);
});
