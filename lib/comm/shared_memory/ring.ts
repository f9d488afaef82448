/** The exchanges between slots of a region: ring reduce-scatter and all-gather by chunks, broadcast, meeting. */
import type { Adder } from "../exchange/adder.ts";
import type { Control } from "./control.ts";
import type { SumType } from "../exchange/arrays.ts";
import { type OpenRegion, slotOffset } from "./region.ts";
import { Waiter } from "./waiter.ts";

/** The part of every rank's slot that belongs to each rank. */
export type RingSegments = readonly {
  /** Bytes from the beginning of a slot. */
  readonly offset: number;
  readonly bytes: number;
}[];

/** What a ring exchange does. */
export interface RingPhases {
  /** Sums all slots' segments, each into the slot of the rank it belongs to, as elements of this type. */
  readonly sum?: SumType;
  /** Copies each segment from the slot of its rank to all other slots. */
  readonly gather: boolean;
}

/** From 256 KiB to 1 MiB are equally fast; 16 KiB halves the rate, and larger ones leave the cache. */
const CHUNK = 256 * 1024;

/**
 * A rank's part in exchanges. Every exchange advances the rank's counter by the same amount on every rank, one per
 * piece of work done, and each piece waits for the counter of the rank it reads from.
 */
export class Ring {
  readonly waiter: Waiter;
  readonly region: OpenRegion;
  readonly rank: number;
  readonly size: number;
  /** Number of the exchange, for comparing with other ranks. */
  exchange = 0;
  /** Bytes that this rank has read from other slots and written to them, for exchanges of gradients and weights. */
  moved = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #control: Control;
  readonly #adder: Adder;
  #base = 0;
  #done = 0;

  constructor(region: OpenRegion, control: Control, adder: Adder, rank: number) {
    this.region = region;
    this.rank = rank;
    this.size = region.shape.size;
    this.waiter = new Waiter(control, rank);
    this.#control = control;
    this.#adder = adder;
    this.#bytes = new Uint8Array(region.buffer);
  }

  /** Says that one more piece of work is done; returns how many are since {@linkcode start}. */
  advance(): number {
    this.#done++;
    this.#control.setCounter(this.rank, this.#base + this.#done);
    return this.#done;
  }

  /** Starts counting from here: every rank has done as much. */
  start(): void {
    this.waiter.throwFailure();
    this.#base = (this.#base + this.#done) | 0;
    this.#done = 0;
    this.advance();
  }

  /** Waits for `peer` to have done `count` pieces of work since the start. */
  reach(peer: number, count: number): Promise<void> | undefined {
    return this.waiter.reach(peer, (this.#base + count) | 0);
  }

  /** Waits for `peer` to have started, and makes sure that it does the same as this rank. */
  async meetPeer(peer: number): Promise<void> {
    await this.reach(peer, 1);
    const difference = this.waiter.difference(peer, this.exchange);
    if (difference !== undefined) throw new Error(`Ranks must make the same calls: ${difference}`);
  }

  /** Waits for all ranks to have done `count` pieces of work since the start. */
  async reachAll(count: number): Promise<void> {
    for (let step = 1; step < this.size; step++) await this.reach((this.rank + step) % this.size, count);
  }

  /** Starts, and waits for all ranks to start. */
  async meet(): Promise<void> {
    this.start();
    for (let step = 1; step < this.size; step++) await this.meetPeer((this.rank + step) % this.size);
  }

  /**
   * Ring reduce-scatter, ring all-gather, or both. In step t a rank takes a segment from the slot of its left
   * neighbour, which did its own step t - 1 on it, chunk by chunk. Before a rank overwrites what its right neighbour
   * read, that reading is done: the chain of waits goes once around the ring.
   *
   * With both, a rank writes the finished sum to its right neighbour's slot as well, while it is in registers: with two
   * ranks that is the whole gathering, and memory moves 4 bytes for every 5 or 6 of a separate one.
   */
  async run(segments: RingSegments, { sum, gather }: RingPhases): Promise<void> {
    const { rank, size, region: { shape } } = this;
    const left = (rank + size - 1) % size;
    this.start();
    if (size === 1) return;
    await this.meetPeer(left);
    const chunks = Math.max(1, ...segments.map(({ bytes }) => Math.ceil(bytes / CHUNK)));
    const sumSteps = sum === undefined ? 0 : size - 1;
    const pushes = sum !== undefined && gather;
    const steps = sumSteps + (gather ? size - 1 : 0) - (pushes ? 1 : 0);
    const right = slotOffset(shape, (rank + 1) % size) - slotOffset(shape, rank);
    for (let step = 0; step < steps; step++) {
      const sums = step < sumSteps;
      // Summing begins two segments back, so that the last sum lands on the rank's own; what was pushed needs no copy.
      const back = sums ? step + 2 : step - sumSteps + (pushes ? 2 : 1);
      const segment = segments[(rank - back + 2 * size) % size]!;
      // The neighbour was given its first gathered segment by the rank before it, so that one is asked for it.
      const source = pushes && step === sumSteps ? (rank + size - 2) % size : left;
      const from = slotOffset(shape, source) - slotOffset(shape, rank);
      const also = pushes && step === sumSteps - 1 ? right : 0;
      for (let chunk = 0; chunk < chunks; chunk++) {
        const wait = this.reach(source, step === 0 ? 1 : (step - 1) * chunks + chunk + 2);
        if (wait !== undefined) await wait;
        const into = slotOffset(shape, rank) + segment.offset + chunk * CHUNK;
        const bytes = Math.min(CHUNK, segment.bytes - chunk * CHUNK);
        if (bytes > 0) {
          if (sums) this.#adder.add(sum!, into, into + from, bytes, into + also);
          else this.#bytes.copyWithin(into, into + from, into + from + bytes);
          this.moved += also === 0 ? bytes : 2 * bytes;
        }
        this.advance();
      }
    }
    // The left neighbour has written all it writes to this slot, and those to the right have read what they need from
    // it.
    if (pushes) {
      await this.reach(left, 1 + sumSteps * chunks);
      if (steps > sumSteps) await this.reach((rank + 2) % size, 1 + (sumSteps + 1) * chunks);
    }
    await this.reach((rank + 1) % size, 1 + steps * chunks);
  }

  /** Copies `data` of rank `root` to all ranks through the root's staging area. */
  async broadcast(data: Uint8Array<ArrayBuffer>, root: number): Promise<void> {
    const { staging } = this.region.shape;
    const slot = slotOffset(this.region.shape, root);
    const area = this.#bytes.subarray(slot, slot + staging);
    await this.meet();
    for (let begin = 0; begin < data.length; begin += staging) {
      const bucket = data.subarray(begin, begin + staging);
      if (begin > 0) this.start();
      for (let at = 0, chunk = 0; at < bucket.length; at += CHUNK, chunk++) {
        const end = Math.min(at + CHUNK, bucket.length);
        if (this.rank === root) area.set(bucket.subarray(at, end), at);
        else {
          await this.reach(root, chunk + 2);
          bucket.set(area.subarray(at, end), at);
        }
        this.advance();
      }
      // The area is free again, and no rank runs ahead of the others by more than one exchange.
      await this.reachAll(1 + Math.ceil(bucket.length / CHUNK));
    }
  }
}
