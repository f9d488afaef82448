/** A launcher in a process of its own, to be killed. Arguments: ranks, scenario as JSON. Prints what ranks print. */
import type { Scenario } from "./fault_program.ts";
import { runScenario } from "./runs.ts";

if (import.meta.main) {
  const [size, scenario] = Deno.args;
  const { code } = await runScenario(Number(size), JSON.parse(scenario!) as Scenario, {
    onLine: ({ text }) => void Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`)),
  });
  Deno.exit(code);
}
