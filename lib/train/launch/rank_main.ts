/** The program of one rank: joins the group, trains, and reports on its standard output. */
import { PeerError, peerFailureCode } from "../../comm/exchange/communicator.ts";
import { withCommunicator } from "../../comm/connect.ts";
import { UserError } from "../../errors.ts";
import type { TrainConfig } from "../../config/config.ts";
import { type RankReport, REPORT } from "./launch.ts";
import { train } from "../trainer.ts";

const stop = new AbortController();
Deno.addSignalListener("SIGTERM", () => stop.abort());

function report(content: RankReport): void {
  const plain = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
  Deno.stdout.writeSync(new TextEncoder().encode(`${REPORT}${JSON.stringify(content, plain)}\n`));
}

try {
  const config: TrainConfig = JSON.parse(Deno.args[0]!);
  await withCommunicator(async (communicator) => {
    for await (const event of train(config, { signal: stop.signal, communicator })) {
      if (communicator.rank === 0) report({ event });
    }
  });
  Deno.exit(0);
} catch (error) {
  if (error instanceof PeerError) {
    Deno.stderr.writeSync(new TextEncoder().encode(`${error.message}\n`));
    Deno.exit(peerFailureCode);
  }
  const known = error instanceof Error ? error : new Error(String(error));
  report({ failure: { user: known instanceof UserError, message: known.message } });
  Deno.exit(known instanceof UserError ? 2 : 1);
}
