/** Ranks on one host, exchanging through a region of shared memory. */
import { addArrays, type Adder, scriptAdder, wasmAdder } from "../exchange/adder.ts";
import {
  type Communicator,
  deadlineAfter,
  type Deadlines,
  defaultDeadlines,
  type ExchangeOptions,
} from "../exchange/communicator.ts";
import { Control, exchangeNames } from "./control.ts";
import {
  bytesOfData,
  type Data,
  type DataOf,
  type DataType,
  dataType,
  elementBytes,
  shardOf,
  sumType,
  viewData,
} from "../exchange/arrays.ts";
import { type OpenRegion, openRegion, type RegionShape, slotOffset } from "./region.ts";
import { Ring, type RingPhases, type RingSegments } from "./ring.ts";
import { checkRoot } from "../exchange/single.ts";
import { checkNodes, type TreeNode } from "../exchange/tree.ts";
import { reduceStagedTree } from "./tree_exchange.ts";

/** What a rank must know to join a group. */
export interface SharedMemoryOptions {
  readonly rank: number;
  /** The region, as its maker names it. */
  readonly path: string;
  readonly shape: RegionShape;
  readonly deadlines?: Deadlines;
  /** The arithmetic: `script` is the slow twin of `wasm`, for tests and comparisons. */
  readonly adder?: "wasm" | "script";
}

/** Arrays in an arena begin at multiples of this, so that two never share a cache line or a vector load. */
const ALIGNMENT = 256;

type ExchangeName = typeof exchangeNames[number];

/** Joins a group. Throws Error when its region is gone. */
export function joinSharedMemory(options: SharedMemoryOptions): SharedMemory {
  return new SharedMemory(openRegion(options.path, options.shape), options);
}

/** A rank of a group on one host. */
export class SharedMemory implements Communicator {
  readonly kind = "shared_memory";
  readonly rank: number;
  readonly size: number;
  readonly #region: OpenRegion;
  readonly #control: Control;
  readonly #adder: Adder;
  readonly #ring: Ring;
  readonly #deadlines: Deadlines;
  #deadline: number;
  #exchanges = 0;
  #allocated = 0;
  #busy = false;

  constructor(region: OpenRegion, { rank, deadlines = defaultDeadlines, adder = "wasm" }: SharedMemoryOptions) {
    this.rank = rank;
    this.size = region.shape.size;
    this.#region = region;
    this.#deadlines = deadlines;
    this.#deadline = deadlines.firstStep;
    this.#adder = adder === "wasm" ? wasmAdder(region.memory) : scriptAdder(region.buffer);
    this.#control = new Control(region.buffer, region.address, this.size);
    this.#ring = new Ring(region, this.#control, this.#adder, rank);
    this.#control.setState(rank, "joined");
  }

  get waited(): number {
    return this.#ring.waiter.waited;
  }

  /** Bytes that this rank has read from other ranks and written to them so far, broadcasts apart. */
  get moved(): number {
    return this.#ring.moved;
  }

  allocate<T extends DataType>(type: T, length: number): DataOf[T] {
    const bytes = length * elementBytes[type];
    const { arena, staging } = this.#region.shape;
    if (this.#allocated + bytes > arena) return viewData(type, new ArrayBuffer(bytes), 0, length);
    const offset = slotOffset(this.#region.shape, this.rank) + staging + this.#allocated;
    if (bytes > 0) this.#region.reserve(offset, bytes);
    this.#allocated += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return viewData(type, this.#region.buffer, offset, length);
  }

  add(into: Data, from: Data): void {
    const type = sumType(into);
    const { buffer } = this.#region;
    if (into.buffer === buffer && from.buffer === buffer && dataType(from) === type && into.length === from.length) {
      this.#adder.add(type, into.byteOffset, from.byteOffset, into.byteLength);
    } else addArrays(into as Float32Array, from as Float32Array);
  }

  async allReduce(data: Data, options: ExchangeOptions = {}): Promise<void> {
    const sum = sumType(data);
    await this.#ringExchange("allReduce", data, { sum, gather: true, fill: "all", drain: "all" }, options);
  }

  async reduceScatter(data: Data, options: ExchangeOptions = {}): Promise<void> {
    const sum = sumType(data);
    await this.#ringExchange("reduceScatter", data, { sum, gather: false, fill: "all", drain: "own" }, options);
  }

  async allGather(data: Data, options: ExchangeOptions = {}): Promise<void> {
    await this.#ringExchange("allGather", data, { gather: true, fill: "own", drain: "all" }, options);
  }

  async broadcast(data: Data, root: number, options: ExchangeOptions = {}): Promise<void> {
    checkRoot(data, root, this.size);
    await this.#exchange("broadcast", data.byteLength, 1 + root, options, async () => {
      await this.#ring.broadcast(bytesOfData(data), root);
    });
  }

  async reduceTree(
    nodes: readonly TreeNode[],
    total: number,
    into: Float32Array<ArrayBuffer>,
    options: ExchangeOptions & { readonly scatter?: boolean } = {},
  ): Promise<void> {
    checkNodes(nodes, total, this.rank, this.size, into.length);
    const scatter = options.scatter ?? false;
    await this.#exchange("reduceTree", into.byteLength, 2 * total + Number(scatter), options, async () => {
      await reduceStagedTree(this.#ring, this.#adder, nodes, total, into, scatter);
    });
  }

  async barrier(options: ExchangeOptions = {}): Promise<void> {
    await this.agree(0, options);
  }

  async agree(value: number, options: ExchangeOptions = {}): Promise<number> {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** 31) {
      throw new RangeError(`Cannot agree on ${value}: expected an integer from 0 to 2^31 - 1`);
    }
    const number = this.#exchanges;
    const all = Array.from({ length: this.size }, (_, rank) => rank);
    this.#control.setValue(this.rank, number, value);
    await this.#exchange("agree", 0, 0, options, () => this.#ring.meet());
    return Math.max(...all.map((rank) => this.#control.value(rank, number)));
  }

  endStep(milliseconds = 0): void {
    this.#deadline = deadlineAfter(this.#deadlines, milliseconds);
  }

  abort(): void {
    this.#control.fail(this.rank, "failed");
  }

  async leave(): Promise<void> {
    await this.barrier();
    this.#control.setState(this.rank, "left");
  }

  async #ringExchange(
    name: ExchangeName,
    data: Data,
    phases: RingPhases & { readonly fill: "all" | "own"; readonly drain: "all" | "own" },
    options: ExchangeOptions,
  ): Promise<void> {
    const size = elementBytes[dataType(data)];
    const shards = Array.from({ length: this.size }, (_, rank) => shardOf(data.length, rank, this.size));
    const shared = this.#isShared(data);
    // Reading and writing in place needs the same place in every slot; bytes of it are part of what ranks compare.
    const place = shared ? data.byteOffset - slotOffset(this.#region.shape, this.rank) : 0;
    const detail = (place * 4 + Object.keys(elementBytes).indexOf(dataType(data))) % 2 ** 32;
    await this.#exchange(name, data.byteLength, detail, options, async () => {
      const bytes = shards.map(({ begin, end }) => ({ begin: begin * size, end: end * size }));
      if (!shared) return await this.#staged(bytesOfData(data), bytes, phases);
      const segments: RingSegments = bytes.map(({ begin, end }) => ({ offset: place + begin, bytes: end - begin }));
      await this.#ring.run(segments, phases);
    });
  }

  /** Takes an array through the staging area, a piece of every shard at a time. */
  async #staged(
    data: Uint8Array<ArrayBuffer>,
    shards: readonly { readonly begin: number; readonly end: number }[],
    phases: RingPhases & { readonly fill: "all" | "own"; readonly drain: "all" | "own" },
  ): Promise<void> {
    const piece = Math.floor(this.#region.shape.staging / this.size / ALIGNMENT) * ALIGNMENT;
    const slot = slotOffset(this.#region.shape, this.rank);
    const staging = new Uint8Array(this.#region.buffer, slot, piece * this.size);
    const largest = Math.max(...shards.map(({ begin, end }) => end - begin));
    for (let at = 0; at === 0 || at < largest; at += piece) {
      const pieces = shards.map(({ begin, end }, shard) => {
        const first = Math.min(end, begin + at);
        return { first, offset: shard * piece, bytes: Math.min(end, first + piece) - first };
      });
      const mine = (which: "all" | "own") => which === "all" ? pieces : [pieces[this.rank]!];
      for (const { first, offset, bytes } of mine(phases.fill)) {
        staging.set(data.subarray(first, first + bytes), offset);
      }
      await this.#ring.run(pieces, phases);
      for (const { first, offset, bytes } of mine(phases.drain)) {
        data.set(staging.subarray(offset, offset + bytes), first);
      }
    }
  }

  #isShared(data: Data): boolean {
    const { shape, buffer } = this.#region;
    const arena = slotOffset(shape, this.rank) + shape.staging;
    return data.buffer === buffer && data.byteOffset >= arena &&
      data.byteOffset + data.byteLength <= arena + shape.arena;
  }

  async #exchange(
    name: ExchangeName,
    bytes: number,
    detail: number,
    options: ExchangeOptions,
    body: () => Promise<void>,
  ): Promise<void> {
    if (this.#busy) throw new Error(`Cannot start ${name}: the previous exchange was not awaited`);
    this.#busy = true;
    const { waiter } = this.#ring;
    waiter.deadline = options.deadline ?? this.#deadline;
    waiter.activity = name === "agree" ? "barrier" : name;
    const exchange = { number: this.#exchanges++, kind: exchangeNames.indexOf(name), bytes, detail };
    this.#control.setExchange(this.rank, exchange);
    this.#ring.exchange = exchange.number;
    try {
      await body();
    } catch (error) {
      // Whatever went wrong here, the others must not wait for this rank; an earlier failure stays the cause.
      this.abort();
      throw error;
    } finally {
      this.#busy = false;
    }
  }
}
