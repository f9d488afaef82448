/** A rank that calls MPI wrongly and says what it is told. Run: mpirun -n 2 deno run -A tests/comm/mpi/misuse_program.ts */
import assert from "node:assert/strict";
import { connect } from "../../../lib/comm/connect.ts";
import { shardOf } from "../../../lib/comm/exchange/arrays.ts";
import { messageOf } from "../../../lib/errors.ts";

const communicator = await connect({ usual: 120_000, firstStep: 120_000 });
const { rank } = communicator;

async function told(what: string, call: () => Promise<unknown>): Promise<void> {
  const answer = await call().then(() => "nothing", (error) => `${error.constructor.name} ${messageOf(error)}`);
  Deno.stdout.writeSync(new TextEncoder().encode(`rank ${rank}, ${what}: ${answer}\n`));
}

for (const value of [-1, 0.5, 2 ** 31]) await told(`agree on ${value}`, () => communicator.agree(value));
const first = communicator.barrier();
await told("a second exchange", () => communicator.barrier());
await first;
const into = new Float32Array(4);
const nodes = [{ begin: rank, end: rank + 1, data: Float32Array.of(1, 2, 3, 4).map((x) => x * (rank + 1)) }];
await told("its share of a sum", async () => {
  await communicator.reduceTree(nodes, 2, into, { scatter: true });
  const { begin, end } = shardOf(into.length, rank, communicator.size);
  assert.deepEqual(into.slice(begin, end), Float32Array.of(3, 6, 9, 12).slice(begin, end));
});
await told("another exchange", () => rank === 0 ? communicator.barrier() : communicator.allReduce(into));
await communicator.leave();
