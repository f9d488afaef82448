/** A rank that exchanges step after step and fails as it is told. */
import { PeerError } from "../../../lib/comm/exchange/communicator.ts";
import { withCommunicator } from "../../../lib/comm/connect.ts";
import { groupMember } from "../../../lib/comm/launch/membership.ts";

/** What happens; the first argument of the program as JSON. */
export interface Scenario {
  /** Exchanges that a rank takes part in. */
  readonly steps: number;
  /** float32 values per exchange. */
  readonly length: number;
  /**
   * What `rank` does before the exchange `at`; -1 is before the first step, where patience is longer. A crash at the end comes
   * after all ranks have left the group.
   */
  readonly fault?: {
    readonly action: "kill" | "stop" | "throw" | "leave early" | "delay" | "crash at the end";
    readonly rank: number;
    readonly at: number;
    readonly milliseconds?: number;
  };
  /** What ranks tell each other that a step takes, milliseconds. */
  readonly stepTime?: number;
  /** End after the step in which SIGTERM arrives, as a trainer does. */
  readonly untilStopped?: boolean;
}

const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function fail({ action, milliseconds = 0 }: NonNullable<Scenario["fault"]>): Promise<void> {
  if (action === "kill") Deno.kill(Deno.pid, "SIGKILL");
  if (action === "stop") Deno.kill(Deno.pid, "SIGSTOP");
  if (action === "throw") throw new Error("the disk is full");
  if (action === "leave early") Deno.exit(0);
  await sleep(milliseconds);
}

async function run({ steps, length, fault, untilStopped, stepTime }: Scenario): Promise<void> {
  let stopped = false;
  if (untilStopped) Deno.addSignalListener("SIGTERM", () => stopped = true);
  await withCommunicator(async (communicator) => {
    const { rank, size } = communicator;
    const data = communicator.allocate("f32", length);
    if (fault?.rank === rank && fault.at < 0) await fail(fault);
    await communicator.barrier();
    communicator.endStep(stepTime);
    print(`process ${Deno.pid}`);
    for (let step = 0; step < steps; step++) {
      if (fault?.rank === rank && fault.at === step) await fail(fault);
      data.fill(rank + step);
      await communicator.allReduce(data);
      const expected = size * (size - 1) / 2 + size * step;
      if (data.some((x) => x !== expected)) throw new Error(`rank ${rank}: wrong sum in step ${step}`);
      if (untilStopped) {
        await sleep(20);
        if (await communicator.agree(stopped ? 1 : 0) > 0) {
          print(`stopped after step ${step}`);
          break;
        }
      }
    }
    print("done");
  });
  if (fault?.action === "crash at the end" && groupMember()?.rank === fault.rank) Deno.kill(Deno.pid, "SIGABRT");
  if (stopped) Deno.exit(143);
}

if (import.meta.main) {
  try {
    await run(JSON.parse(Deno.args[0]!) as Scenario);
  } catch (error) {
    print(error instanceof Error ? error.message : String(error));
    Deno.exit(error instanceof PeerError ? 7 : 4);
  }
}
