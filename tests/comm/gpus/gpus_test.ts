import assert from "node:assert/strict";
import { UserError } from "../../../lib/errors.ts";
import {
  checkOwnGpu,
  countGpus,
  gpuVariable,
  pinGpus,
  probeGpus,
  type RankEnvironment,
} from "../../../lib/comm/gpus/gpus.ts";
import type { VulkanDevice } from "../../../lib/comm/native/vulkan.ts";

const card = (slot: number): VulkanDevice => ({ name: "Card", type: "discrete", driver: 1, pci: `0000:0${slot}:00.0` });
const software: VulkanDevice = { name: "llvmpipe", type: "cpu", driver: 1, pci: undefined };
const integrated: VulkanDevice = { name: "Graphics", type: "integrated", driver: 1, pci: "0000:00:02.0" };
const addressOf = (environment: RankEnvironment) =>
  environment.DRI_PRIME?.replace(/^pci-(.*)_(.*)_(.*)_(.*)$/, "$1:$2:$3.$4");

/** A machine whose layer moves the named card to the front, or, as older ones do, the last that is not named. */
function machine(devices: readonly VulkanDevice[], layer: "right" | "inverted" | "missing") {
  return (environment: RankEnvironment): Promise<VulkanDevice[]> => {
    const wanted = addressOf(environment);
    if (wanted === undefined || layer === "missing") return Promise.resolve([...devices]);
    const matches = ({ pci }: VulkanDevice) => (pci === wanted) === (layer === "right");
    const front = devices.findLast(matches);
    return Promise.resolve(front === undefined ? [...devices] : [front, ...devices.filter((other) => other !== front)]);
  };
}

Deno.test("pinGpus: every rank gets a card of its own, whichever way the layer reads its variable", async () => {
  const devices = [integrated, card(3), card(4), software];
  for (const layer of ["right", "inverted"] as const) {
    const probe = machine(devices.slice(1, 3), layer);
    const environments = await pinGpus(2, probe);
    assert.deepEqual(environments.map((environment) => environment[gpuVariable]), ["0000:03:00.0", "0000:04:00.0"]);
    for (const environment of environments) {
      assert.equal((await probe(environment))[0]!.pci, environment[gpuVariable]);
      assert.equal(environment.DENO_WEBGPU_BACKEND, "vulkan");
    }
  }
  const environments = await pinGpus(2, machine(devices, "right"));
  assert.deepEqual(environments.map((environment) => environment[gpuVariable]), ["0000:03:00.0", "0000:04:00.0"]);
});

Deno.test("pinGpus: what can't be done is refused with what to do", async () => {
  const devices = [card(3), card(4)];
  await assert.rejects(pinGpus(2, machine(devices, "missing")), /rank 1 the card at 0000:04:00.0/);
  await assert.rejects(pinGpus(3, machine(devices, "right")), (error) => {
    return error instanceof UserError && /3 graphics cards wanted, 2 found/.test(error.message) &&
      error.hint === "--gpus 2";
  });
  await assert.rejects(pinGpus(1, machine([], "right")), UserError);
});

Deno.test("pinGpus: ranks share the software adapter, and one card needs no layer", async () => {
  const shared = await pinGpus(4, machine([software], "missing"));
  assert.deepEqual(shared, new Array(4).fill({ DENO_WEBGPU_BACKEND: "vulkan" }));
  const [single] = await pinGpus(1, machine([card(3), software], "missing"));
  assert.equal(single![gpuVariable], "0000:03:00.0");
});

Deno.test("countGpus: discrete cards, else integrated ones, else the software adapter", async () => {
  assert.equal(await countGpus(machine([integrated, card(3), card(4), software], "right")), 2);
  assert.equal(await countGpus(machine([integrated, software], "right")), 1);
  assert.equal(await countGpus(machine([software], "right")), 1);
});

Deno.test("checkOwnGpu: a rank that finds another card refuses to train", () => {
  checkOwnGpu(undefined, () => assert.fail("nothing to check"));
  checkOwnGpu("0000:03:00.0", () => [card(3), card(4)]);
  assert.throws(() => checkOwnGpu("0000:04:00.0", () => [card(3), card(4)]), UserError);
});

Deno.test("probeGpus: this machine's devices, as Vulkan lists them", async () => {
  const devices = await probeGpus({});
  assert.ok(devices.length > 0);
  for (const { name, pci } of devices) {
    assert.ok(name.length > 0);
    assert.match(pci ?? "0000:00:00.0", /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/);
  }
});
