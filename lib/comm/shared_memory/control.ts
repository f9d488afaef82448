/**
 * The control block of a region: 64 KiB of words that the launcher and all ranks see.
 *
 * Every rank has a counter of the work it has done, a description of the exchange it is in, and whom it waits for. Only
 * the rank writes its words; the word that says who failed is written once, by whoever finds out first.
 */
import { futexWake } from "../native/libc.ts";

/** Bytes of the control block. */
export const CONTROL_BYTES = 65536;
/** Words of a rank: four cache lines, so that a counter that others spin on shares its line with nothing. */
const RANK_WORDS = 64;
const FAILURE = 0;
const COUNTER = 0;
const EXCHANGE = 16;
/** Words of one description; two alternate, because the fastest rank may enter the next exchange while others look. */
const EXCHANGE_WORDS = 5;
const AWAITED = 32;
const TARGET = 33;
const VALUE = 48;
const STATE = 50;

/** Most ranks that a control block has room for. */
export const MAX_RANKS: number = CONTROL_BYTES / 4 / RANK_WORDS - 1;

/** What ended a group. */
export type FailureReason = "gone" | "stalled" | "failed" | "early" | "stopped";

const reasons: readonly FailureReason[] = ["gone", "stalled", "failed", "early", "stopped"];

/** Who ended a group and how. */
export interface Failure {
  readonly rank: number;
  readonly reason: FailureReason;
}

/** Where in its life a rank is. */
export type RankState = "starting" | "joined" | "left";

const states: readonly RankState[] = ["starting", "joined", "left"];

/** Kinds of exchange, as numbers in the control block. */
export const exchangeNames = ["agree", "allReduce", "reduceScatter", "allGather", "broadcast", "reduceTree"] as const;

/** What a rank is exchanging; ranks compare it. */
export interface Exchange {
  /** Number of the exchange in the life of the group. */
  readonly number: number;
  /** Place in {@linkcode exchangeNames}. */
  readonly kind: number;
  readonly bytes: number;
  /** Element type and further arguments, packed. */
  readonly detail: number;
}

/** Access to the control block. */
export class Control {
  readonly #words: Int32Array<ArrayBuffer>;
  readonly #address: bigint;

  constructor(buffer: ArrayBuffer, address: bigint, readonly size: number) {
    this.#words = new Int32Array(buffer, 0, CONTROL_BYTES / 4);
    this.#address = address;
  }

  #at(rank: number, word: number): number {
    return (rank + 1) * RANK_WORDS + word;
  }

  /** Who failed, if anyone has. */
  failure(): Failure | undefined {
    const word = Atomics.load(this.#words, FAILURE);
    return word === 0 ? undefined : { rank: (word & 0xffff) - 1, reason: reasons[word >> 16]! };
  }

  /** Marks the group as ended by a rank, unless it is marked already, and wakes everyone who waits. */
  fail(rank: number, reason: FailureReason): void {
    Atomics.compareExchange(this.#words, FAILURE, 0, (rank + 1) | (reasons.indexOf(reason) << 16));
    for (let other = 0; other < this.size; other++) futexWake(this.counterAddress(other));
  }

  /** Work that a rank has done so far, modulo 2^32. */
  counter(rank: number): number {
    return Atomics.load(this.#words, this.#at(rank, COUNTER));
  }

  /** Publishes the work done; what was written to shared memory before is seen by whoever sees the counter. */
  setCounter(rank: number, value: number): void {
    Atomics.store(this.#words, this.#at(rank, COUNTER), value | 0);
    futexWake(this.counterAddress(rank));
  }

  /** Where to sleep on a rank's counter. */
  counterAddress(rank: number): bigint {
    return this.#address + BigInt(4 * this.#at(rank, COUNTER));
  }

  /** Publishes what a rank exchanges, to be called before its counter says so. */
  setExchange(rank: number, { number, kind, bytes, detail }: Exchange): void {
    const at = this.#at(rank, EXCHANGE + EXCHANGE_WORDS * (number % 2));
    [number, kind, bytes % 2 ** 32, Math.floor(bytes / 2 ** 32), detail].forEach((value, i) => {
      Atomics.store(this.#words, at + i, value | 0);
    });
  }

  /** What a rank exchanges in the exchange of this number. */
  exchange(rank: number, number: number): Exchange {
    const at = this.#at(rank, EXCHANGE + EXCHANGE_WORDS * (number % 2));
    const word = (i: number) => Atomics.load(this.#words, at + i) >>> 0;
    return { number: word(0), kind: word(1), bytes: word(2) + word(3) * 2 ** 32, detail: word(4) };
  }

  /** Publishes whom a rank sleeps for, and until which counter; undefined when it is awake. */
  setAwaited(rank: number, awaited: number | undefined, target = 0): void {
    Atomics.store(this.#words, this.#at(rank, TARGET), target);
    Atomics.store(this.#words, this.#at(rank, AWAITED), (awaited ?? -1) + 1);
  }

  /**
   * Whose fault it is that `rank` does not go on: `rank` itself when it is awake or has what it waits for, else that of
   * the rank it waits for. A circle of waiting ranks means that the exchanges differ; its first member is named.
   */
  culprit(rank: number): number {
    const seen = new Set<number>();
    while (!seen.has(rank)) {
      seen.add(rank);
      const awaited = Atomics.load(this.#words, this.#at(rank, AWAITED)) - 1;
      const target = Atomics.load(this.#words, this.#at(rank, TARGET));
      if (awaited < 0 || reached(this.counter(awaited), target)) break;
      rank = awaited;
    }
    return rank;
  }

  /** A rank's contribution to the agreement of this number. */
  value(rank: number, number: number): number {
    return Atomics.load(this.#words, this.#at(rank, VALUE + number % 2));
  }

  /** Publishes a contribution, to be called before the counter says so. */
  setValue(rank: number, number: number, value: number): void {
    Atomics.store(this.#words, this.#at(rank, VALUE + number % 2), value);
  }

  /** Where in its life a rank is. */
  state(rank: number): RankState {
    return states[Atomics.load(this.#words, this.#at(rank, STATE))]!;
  }

  /** Publishes where in its life a rank is. */
  setState(rank: number, state: RankState): void {
    Atomics.store(this.#words, this.#at(rank, STATE), states.indexOf(state));
  }
}

/** Whether a counter modulo 2^32 has come to `target`. */
export function reached(counter: number, target: number): boolean {
  return ((counter - target) | 0) >= 0;
}
