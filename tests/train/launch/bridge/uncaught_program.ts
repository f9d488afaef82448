/** A worker in which something fails that nobody waits for: `seed` 0 a promise, 1 a timer. */
import { serveWorker } from "../../../../lib/train/launch/worker.ts";
import { SENT } from "./messages.ts";

serveWorker(async function* ({ seed }) {
  yield* SENT;
  if (seed === 0) Promise.reject(new Error("nobody waits for this"));
  else {setTimeout(() => {
      throw new Error("nobody waits for this");
    }, 0);}
  await new Promise(() => {});
});
