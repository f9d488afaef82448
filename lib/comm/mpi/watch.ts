/** Deadlines for MPI, whose calls wait for ever and do not say for whom. */
import { PeerError } from "../exchange/communicator.ts";
import type { MpiLibrary } from "./library.ts";

/** Milliseconds between looks at what other ranks say. */
const TICK = 100;
/** Milliseconds after which a waiting rank tells the others where it is. */
const PATIENCE = 1000;
/** Tag of the messages in which ranks say where they are. */
const TAG = 0x636f67;
const ANY_SOURCE = -1;
/** Bytes of MPI_Status are 24 in Open MPI; its first word is the source. */
const STATUS_WORDS = 16;

/**
 * Watches calls of one rank. Ranks that wait for long tell each other the number of the exchange they are in, and
 * answer those who do; whoever has said nothing of this exchange when the deadline passes is the one that all wait for.
 */
export class MpiWatch {
  readonly #mpi: MpiLibrary;
  /** Number of the last exchange that each rank is known to have entered. */
  readonly #entered: Int32Array;
  /** Messages under way; MPI reads them until they have arrived. */
  readonly #sent: Int32Array<ArrayBuffer>[] = [];
  #told = -1;
  waited = 0;
  deadline = 0;
  activity = "";
  exchange = 0;

  constructor(mpi: MpiLibrary) {
    this.#mpi = mpi;
    this.#entered = new Int32Array(mpi.size).fill(-1);
  }

  /** Waits for a call that runs on the thread pool. Throws PeerError at the deadline. */
  async wait(call: Promise<number>): Promise<void> {
    const start = performance.now();
    let idle = 0;
    let code: number | undefined;
    const ended = call.then((value) => void (code = value));
    while (code === undefined) {
      const slice = performance.now();
      await Promise.race([ended, tick()]);
      // When this process was stopped, that time says nothing about the others.
      idle += Math.min(performance.now() - slice, 2 * TICK);
      if (code !== undefined) break;
      if (this.#listen() || idle > Math.min(PATIENCE, this.deadline / 2)) this.#tell();
      if (idle > this.deadline) this.#giveUp();
    }
    this.waited += performance.now() - start;
    if (code !== 0) throw new Error(`Open MPI failed with code ${code} in ${this.activity}`);
  }

  /** Reads what others say; true when anyone said anything. */
  #listen(): boolean {
    const { calls, world, types } = this.#mpi;
    const [flag, status, message] = [new Int32Array(1), new Int32Array(STATUS_WORDS), new Int32Array(1)];
    let heard = false;
    for (;;) {
      calls.MPI_Iprobe(ANY_SOURCE, TAG, world, flag, status);
      if (flag[0] === 0) return heard;
      heard = true;
      const source = status[0]!;
      calls.MPI_Recv(message, 1, types.i32, source, TAG, world, 0n);
      this.#entered[source] = message[0]!;
    }
  }

  #tell(): void {
    if (this.#told === this.exchange) return;
    this.#told = this.exchange;
    const { calls, world, types, rank, size } = this.#mpi;
    const message = new Int32Array([this.exchange]);
    this.#sent.push(message);
    for (let other = 0; other < size; other++) {
      if (other !== rank) calls.MPI_Isend(message, 1, types.i32, other, TAG, world, new BigUint64Array(1));
    }
  }

  #giveUp(): never {
    const { rank } = this.#mpi;
    const late = [...this.#entered.keys()].filter((other) => other !== rank && this.#entered[other]! < this.exchange);
    const who = late.length === 0
      ? "no rank"
      : `rank${late.length > 1 ? "s" : ""} ${late.slice(0, 8).join(", ")}${late.length > 8 ? ", ..." : ""}`;
    throw new PeerError(
      `rank ${rank}: ${this.activity} stopped: ${who} made ${
        late.length === 0 ? "" : "no "
      }progress for ${this.deadline} ms`,
      late[0],
    );
  }
}

function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, TICK));
}
