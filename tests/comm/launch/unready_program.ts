/** Two ranks of which the second is not yet ready to obey a stop, and ends at once; the first hears of that in a barrier. */
import { withCommunicator } from "../../../lib/comm/connect.ts";
import { peerFailureCode } from "../../../lib/comm/exchange/communicator.ts";

try {
  await withCommunicator(async (communicator) => {
    if (communicator.rank === 0) Deno.addSignalListener("SIGTERM", () => {});
    Deno.stdout.writeSync(new TextEncoder().encode("waiting\n"));
    if (communicator.rank === 1) await new Promise((resolve) => setTimeout(resolve, 60_000));
    await communicator.barrier();
  });
} catch {
  Deno.exit(peerFailureCode);
}
