/** A worker that trains nothing. */
import { serveWorker } from "../../../../lib/train/launch/worker.ts";
import { fakeTrain } from "./messages.ts";

serveWorker(fakeTrain);
