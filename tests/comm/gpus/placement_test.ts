import assert from "node:assert/strict";
import { type NvidiaCard, vulkanAddress } from "../../../lib/comm/native/nvml.ts";
import { checkPlacement, misplacedRanks } from "../../../lib/comm/gpus/placement.ts";
import { UserErrors } from "../../../lib/errors.ts";
import { withRanks } from "../exchange/groups.ts";

/** Cards as NVIDIA's library describes them, with the ids of the processes on each. */
function cardsWith(...processes: readonly (readonly number[])[]): NvidiaCard[] {
  return processes.map((list, i) => ({
    pci: vulkanAddress(["00000000:41:00.0", "00000000:C1:00.0"][i]!),
    processes: new Set(list),
  }));
}

const first = "0000:41:00.0";
const second = "0000:c1:00.0";
const assigned = [{ rank: 0, process: 10, pci: first }, { rank: 1, process: 11, pci: second }];

Deno.test("misplacedRanks: names ranks on a foreign card and those they share it with", () => {
  assert.deepEqual(misplacedRanks(cardsWith([10], [11]), assigned), []);
  assert.deepEqual(misplacedRanks(cardsWith([10, 11], []), assigned), [
    `rank 1 was given the card at ${second} and uses ${first}, as rank 0 does`,
  ]);
  assert.deepEqual(misplacedRanks(cardsWith([11], [10]), assigned), [
    `rank 0 was given the card at ${first} and uses ${second}`,
    `rank 1 was given the card at ${second} and uses ${first}`,
  ]);
});

Deno.test("misplacedRanks: where the driver knows processes by other ids, nothing is known and no rank accused", () => {
  assert.deepEqual(misplacedRanks(cardsWith([500], [501]), assigned), []);
  // A process of another container that happens to have the id which rank 1 has in its own.
  assert.deepEqual(misplacedRanks(cardsWith([500, 11], [501]), assigned), []);
  assert.deepEqual(misplacedRanks([], assigned), []);
});

Deno.test("checkPlacement: the first rank of a host refuses for all of its host, and for no other", async () => {
  // Two hosts with equal addresses and process ids, the ranks of the second on one card.
  const asked: number[] = [];
  const outcomes = await withRanks(4, async (communicator) => {
    const { rank } = communicator;
    const place = { host: rank < 2 ? "a" : "b", process: 10 + rank % 2, pci: rank % 2 === 0 ? first : second };
    const cards = () => {
      asked.push(rank);
      return rank < 2 ? cardsWith([10], [11]) : cardsWith([10, 11], []);
    };
    return await checkPlacement(communicator, { place, cards }).catch((error: unknown) => error);
  });
  assert.deepEqual(asked.sort(), [0, 2]);
  for (const rank of [0, 1, 3]) assert.equal(outcomes[rank], undefined);
  assert.ok(outcomes[2] instanceof UserErrors);
  assert.deepEqual(outcomes[2].problems, [`rank 3 was given the card at ${second} and uses ${first}, as rank 2 does`]);
});

Deno.test("checkPlacement: ranks that were given no card are not looked for", async () => {
  await withRanks(
    2,
    (communicator) => checkPlacement(communicator, { cards: () => assert.fail("nothing to compare with") }),
  );
});
