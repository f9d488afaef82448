import assert from "node:assert/strict";
import { fromFileUrl } from "../../paths.ts";

const program = fromFileUrl("../exchange/exchange_program.ts", import.meta.url);
const rank = [Deno.execPath(), "run", "--allow-all", "--no-check", program];

function isInstalled(tool: string): boolean {
  try {
    return new Deno.Command(tool, { args: ["--version"], stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

const hasMpi = isInstalled("mpirun");
/** Making network namespaces takes root. */
const hasNamespaces = hasMpi && Deno.uid() === 0 &&
  new Deno.Command("sh", { args: ["-c", "ip netns add cogtune-probe && ip netns del cogtune-probe"] }).outputSync()
    .success;

async function run(program: string, args: readonly string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args: [...args] }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

const mpirun = (count: number, ...args: readonly string[]) =>
  run("mpirun", ["--allow-run-as-root", "--oversubscribe", "-n", String(count), ...rank, ...args]);

Deno.test({
  name: "MPI: every exchange is right on three ranks",
  ignore: !hasMpi,
  async fn() {
    const { code, text } = await mpirun(3);
    assert.equal(code, 0, text);
    for (let i = 0; i < 3; i++) assert.match(text, new RegExp(`rank ${i} of 3 by mpi: all exchanges are right`));
  },
});

Deno.test({
  name: "MPI: a rank that stays away is named at the deadline, and all end with code 7",
  ignore: !hasMpi,
  async fn() {
    const { code, text } = await mpirun(3, "1");
    assert.equal(code, 7, text);
    assert.match(text, /rank [02]: barrier stopped: rank 1 made no progress for 3000 ms/);
  },
});

Deno.test({
  name: "MPI: two network namespaces as two hosts",
  ignore: !hasNamespaces,
  async fn() {
    const { code, text } = await run(fromFileUrl("two_hosts.sh", import.meta.url), rank);
    assert.equal(code, 0, text);
    for (let i = 0; i < 2; i++) assert.match(text, new RegExp(`rank ${i} of 2 by mpi: all exchanges are right`));
  },
});
