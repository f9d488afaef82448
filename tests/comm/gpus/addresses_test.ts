/** Cards that do not tell where they are, as some drivers in virtual machines and containers do not. */
import assert from "node:assert/strict";
import { checkOwnGpu, pinGpus } from "../../../lib/comm/gpus/gpus.ts";
import type { VulkanDevice } from "../../../lib/comm/native/vulkan.ts";
import { UserError } from "../../../lib/errors.ts";

const card: VulkanDevice = { name: "Card", type: "discrete", driver: 1, pci: undefined };
const find = (...devices: VulkanDevice[]) => () => Promise.resolve(devices);

Deno.test("one card without an address needs none; of several it is not known which is which", async () => {
  assert.deepEqual(await pinGpus(1, find(card)), [{ DENO_WEBGPU_BACKEND: "vulkan" }]);
  await assert.rejects(
    pinGpus(2, find(card, card)),
    (error) =>
      error instanceof UserError && /Card does not tell its PCI address/.test(error.summary) &&
      /a container with one card/.test(error.hint!),
  );
  await assert.rejects(
    pinGpus(3, find(card, { ...card, pci: "0000:01:00.0" })),
    /2 found: Card, Card at 0000:01:00\.0/,
  );
});

Deno.test("a rank that finds no card, or one without an address, says so", () => {
  assert.throws(
    () => checkOwnGpu("0000:01:00.0", () => []),
    /given the card at 0000:01:00\.0 and finds none at no addr/,
  );
  assert.throws(() => checkOwnGpu("0000:01:00.0", () => [card]), /finds Card at no address first/);
});
