import assert from "node:assert/strict";
import { fromFileUrl } from "../../paths.ts";
import { hasMpi, mpirun, rankOf, run } from "./mpirun.ts";

const program = fromFileUrl("../exchange/exchange_program.ts", import.meta.url);
/** Making network namespaces takes root. */
const hasNamespaces = hasMpi && Deno.uid() === 0 &&
  new Deno.Command("sh", { args: ["-c", "ip netns add cogtune-probe && ip netns del cogtune-probe"] }).outputSync()
    .success;

Deno.test({
  name: "MPI: every exchange is right on three ranks",
  ignore: !hasMpi,
  async fn() {
    const { code, text } = await mpirun(3, program);
    assert.equal(code, 0, text);
    for (let i = 0; i < 3; i++) assert.match(text, new RegExp(`rank ${i} of 3 by mpi: all exchanges are right`));
  },
});

Deno.test({
  name: "MPI: a rank that stays away is named at the deadline, and all end with code 7",
  ignore: !hasMpi,
  async fn() {
    const { code, text } = await mpirun(3, program, "1");
    assert.equal(code, 7, text);
    assert.match(text, /rank [02]: barrier stopped: rank 1 made no progress for 5000 ms/);
  },
});

Deno.test({
  name: "MPI: two network namespaces as two hosts",
  ignore: !hasNamespaces,
  async fn() {
    const { code, text } = await run(fromFileUrl("two_hosts.sh", import.meta.url), rankOf(program));
    assert.equal(code, 0, text);
    for (let i = 0; i < 2; i++) assert.match(text, new RegExp(`rank ${i} of 2 by mpi: all exchanges are right`));
  },
});
