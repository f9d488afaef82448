/** The program of the worker that trains. */
import { train } from "../trainer.ts";
import { serveWorker } from "./worker.ts";

serveWorker(train);
