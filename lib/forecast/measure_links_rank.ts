/** The program of one rank of `measureLinks`; the first tells its parent. */
import { withCommunicator } from "../comm/connect.ts";
import { tellParent } from "../comm/launch/report_line.ts";
import { openDevice } from "../gpu/device.ts";
import { Session } from "../gpu/session.ts";
import { LinkProbe } from "./link_probe.ts";

/** Long enough for the median to pass over what else the machine does. */
const SECONDS = 2;
/** The same on a machine so slow or busy that a sample takes as long. */
const LEAST_SAMPLES = 5;

await withCommunicator(async (communicator) => {
  using device = communicator.rank < Number(Deno.args[0]) ? await openDevice() : undefined;
  using session = device === undefined ? undefined : new Session(device);
  const probe = new LinkProbe(communicator, session);
  await probe.sample();
  probe.reset();
  for (let seconds = 0, samples = 0; seconds < SECONDS || samples < LEAST_SAMPLES; samples++) {
    seconds += await probe.sample();
  }
  if (communicator.rank === 0) tellParent(probe.rates());
});
Deno.exit(0);
