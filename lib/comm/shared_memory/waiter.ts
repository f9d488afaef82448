/** Waiting for other ranks: a short spin, then sleep in slices, never past the deadline. */
import { PeerError } from "../exchange/communicator.ts";
import { type Control, exchangeNames, reached } from "./control.ts";
import { futexWait, libc } from "../native/libc.ts";

/** A peer that is at work answers within a few microseconds: 2000 loads take about 2. */
const SPINS = 2000;
/** A wait past the spins gives the core to a rank that shares it; a switch takes about 2 microseconds, a sleep 170. */
const YIELDS = 50;
/** The longest sleep: how late a waiter may notice what no wake-up tells it. */
const SLICE = 200;

/** Waits of one rank. */
export class Waiter {
  readonly #control: Control;
  readonly #rank: number;
  /** Milliseconds spent sleeping. */
  waited = 0;
  /** Milliseconds that the rank waited for may take without progress. */
  deadline = 0;
  /** What the rank is doing, for messages. */
  activity = "";

  constructor(control: Control, rank: number) {
    this.#control = control;
    this.#rank = rank;
  }

  /**
   * Undefined when `peer` has come to `target` within the spin, else a promise of it. The promise rejects with
   * PeerError when the group fails or the deadline passes.
   */
  reach(peer: number, target: number): Promise<void> | undefined {
    for (let spin = 0; spin < SPINS; spin++) if (reached(this.#control.counter(peer), target)) return;
    const { sched_yield } = libc();
    for (let turn = 0; turn < YIELDS; turn++) {
      sched_yield();
      if (reached(this.#control.counter(peer), target)) return;
    }
    return this.#sleep(peer, target);
  }

  async #sleep(peer: number, target: number): Promise<void> {
    const control = this.#control;
    control.setAwaited(this.#rank, peer, target);
    let last = control.counter(peer);
    let idle = 0;
    try {
      while (!reached(last, target)) {
        this.throwFailure();
        const start = performance.now();
        await futexWait(control.counterAddress(peer), last, SLICE);
        const passed = performance.now() - start;
        this.waited += passed;
        const counter = control.counter(peer);
        // When this process or the whole machine was stopped, that time says nothing about the peer.
        idle = counter === last ? idle + Math.min(passed, 2 * SLICE) : 0;
        last = counter;
        if (idle > this.deadline) this.#stalled(peer);
      }
    } finally {
      control.setAwaited(this.#rank, undefined);
    }
  }

  #stalled(peer: number): never {
    const culprit = this.#control.culprit(peer);
    if (culprit !== this.#rank) this.#control.fail(culprit, "stalled");
    this.throwFailure();
    throw new PeerError(`rank ${this.#rank}: ${this.activity} stopped: the ranks wait for each other in a circle`);
  }

  /** Throws PeerError when the group has failed. */
  throwFailure(): void {
    const failure = this.#control.failure();
    if (failure === undefined) return;
    const what = {
      gone: "is gone",
      failed: "failed",
      early: "ended before the others",
      stopped: "was stopped by a signal",
      stalled: `made no progress for ${this.deadline} ms`,
    }[failure.reason];
    throw new PeerError(`rank ${this.#rank}: ${this.activity} stopped: rank ${failure.rank} ${what}`, failure.rank);
  }

  /** What two ranks do differently, or undefined when their exchanges match. */
  difference(peer: number, number: number): string | undefined {
    const mine = this.#control.exchange(this.#rank, number);
    const theirs = this.#control.exchange(peer, number);
    const same = mine.number === theirs.number && mine.kind === theirs.kind && mine.bytes === theirs.bytes &&
      mine.detail === theirs.detail;
    if (same) return undefined;
    const show = ({ number, kind, bytes, detail }: typeof mine) =>
      `${exchangeNames[kind] ?? "nothing"} number ${number} of ${bytes} bytes (variant ${detail})`;
    return `rank ${this.#rank} is in ${show(mine)}, rank ${peer} in ${show(theirs)}`;
  }
}
