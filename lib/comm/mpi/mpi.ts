/** Ranks on one or more hosts, started by mpirun or a scheduler and exchanging through Open MPI. */
import { addArrays, createWindow, wasmAdder } from "../exchange/adder.ts";
import {
  type Communicator,
  deadlineAfter,
  type Deadlines,
  defaultDeadlines,
  type ExchangeOptions,
} from "../exchange/communicator.ts";
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
import { IN_PLACE, loadMpi, type MpiLibrary } from "./library.ts";
import { MpiWatch } from "./watch.ts";
import { pinLibraries } from "../native/pin_libraries.ts";
import { checkRoot } from "../exchange/single.ts";
import { checkNodes, rankNodes, type TreeNode, treeSums } from "../exchange/tree.ts";

/** How to join. */
export interface MpiOptions {
  readonly deadlines?: Deadlines;
  /** Bytes of each of two staging areas (32 MiB); a multiple of 64 KiB. */
  readonly staging?: number;
}

/** Bytes of one call on an array in place: counts of MPI are 32-bit numbers. */
const CALL_BYTES = 2 ** 29;
const ALIGNMENT = 256;

/** Joins the group that mpirun started. Throws UserError when Open MPI cannot be loaded. */
export function joinMpi(options: MpiOptions = {}): Communicator {
  return new Mpi(loadMpi(), options);
}

/** A piece of each rank's shard, in bytes of the whole array. */
interface Piece {
  readonly first: number;
  readonly bytes: number;
}

class Mpi implements Communicator {
  readonly kind = "mpi";
  readonly rank: number;
  readonly size: number;
  readonly #mpi: MpiLibrary;
  readonly #watch: MpiWatch;
  readonly #deadlines: Deadlines;
  readonly #staging: number;
  readonly #buffer: ArrayBuffer;
  readonly #adder: ReturnType<typeof wasmAdder>;
  /** Counts and offsets of the calls of an exchange: MPI reads them on another thread, where nothing keeps them. */
  readonly #kept: Int32Array[] = [];
  #deadline: number;
  #exchanges = 0;
  #busy = false;

  constructor(mpi: MpiLibrary, { deadlines = defaultDeadlines, staging = 2 ** 25 }: MpiOptions) {
    this.#mpi = mpi;
    this.rank = mpi.rank;
    this.size = mpi.size;
    this.#watch = new MpiWatch(mpi);
    this.#deadlines = deadlines;
    this.#deadline = deadlines.firstStep;
    this.#staging = staging;
    const memory = createWindow(2 * staging);
    this.#buffer = memory.buffer as ArrayBuffer;
    this.#adder = wasmAdder(memory);
  }

  get waited(): number {
    return this.#watch.waited;
  }

  allocate<T extends DataType>(type: T, length: number): DataOf[T] {
    return viewData(type, new ArrayBuffer(length * elementBytes[type]), 0, length);
  }

  add(into: Data, from: Data): void {
    sumType(into);
    addArrays(into as Float32Array, from as Float32Array);
  }

  async allReduce(data: Data, options: ExchangeOptions = {}): Promise<void> {
    const type = sumType(data);
    await this.#exchange("allReduce", [1, data.length, elementBytes[type]], options, async () => {
      if (type === "bf16") return await this.#reduceBf16(data as Uint16Array<ArrayBuffer>, true);
      const { calls, types, sum, world } = this.#mpi;
      const step = CALL_BYTES / elementBytes.f32;
      for (let at = 0; at < data.length; at += step) {
        const part = data.subarray(at, at + step);
        await this.#watch.wait(calls.MPI_Allreduce(IN_PLACE, part, part.length, types.f32, sum, world));
      }
    });
  }

  async reduceScatter(data: Data, options: ExchangeOptions = {}): Promise<void> {
    const type = sumType(data);
    await this.#exchange("reduceScatter", [2, data.length, elementBytes[type]], options, async () => {
      if (type === "bf16") return await this.#reduceBf16(data as Uint16Array<ArrayBuffer>, false);
      const { calls, types, sum, world } = this.#mpi;
      const bytes = bytesOfData(data);
      for (const pieces of this.#pieces(data, this.size)) {
        const [input] = this.#pack(pieces, bytes);
        const counts = this.#keep(Int32Array.from(pieces, (piece) => piece.bytes / elementBytes.f32));
        const own = pieces[this.rank]!;
        const output = this.#area(1, own.bytes);
        await this.#watch.wait(calls.MPI_Reduce_scatter(input, output, counts, types.f32, sum, world));
        bytes.set(output, own.first);
      }
    });
  }

  async allGather(data: Data, options: ExchangeOptions = {}): Promise<void> {
    const size = elementBytes[dataType(data)];
    await this.#exchange("allGather", [3, data.length, size], options, async () => {
      const bytes = bytesOfData(data);
      for (const pieces of this.#pieces(data, this.size)) {
        const own = pieces[this.rank]!;
        await this.#gatherPieces(pieces, bytes.subarray(own.first, own.first + own.bytes), bytes);
      }
    });
  }

  async broadcast(data: Data, root: number, options: ExchangeOptions = {}): Promise<void> {
    checkRoot(data, root, this.size);
    await this.#exchange("broadcast", [4, data.byteLength, root], options, async () => {
      const { calls, types, world } = this.#mpi;
      const bytes = bytesOfData(data);
      for (let at = 0; at < bytes.length; at += CALL_BYTES) {
        const part = bytes.subarray(at, at + CALL_BYTES);
        await this.#watch.wait(calls.MPI_Bcast(part, part.length, types.u8, root, world));
      }
    });
  }

  async reduceTree(
    nodes: readonly TreeNode[],
    total: number,
    into: Float32Array<ArrayBuffer>,
    { scatter = false, ...options }: ExchangeOptions & { readonly scatter?: boolean } = {},
  ): Promise<void> {
    checkNodes(nodes, total, this.rank, this.size, into.length);
    const owners = Array.from({ length: this.size }, (_, other) => rankNodes(total, other, this.size));
    const ranges = owners.flat();
    const counts = owners.map(({ length }) => length);
    const sums = treeSums(ranges, total);
    const inputs = nodes.map(({ data }) => bytesOfData(data));
    await this.#exchange("reduceTree", [5, into.length, 2 * total + Number(scatter)], options, async () => {
      const output = bytesOfData(into);
      for (const pieces of this.#pieces(into, Math.max(ranges.length, this.size * Math.max(...counts)))) {
        const own = pieces[this.rank]!;
        const received = await this.#allToAll(pieces, inputs, counts);
        const place = (node: number) => received.byteOffset + node * own.bytes;
        for (const sum of sums) this.#adder.add("f32", place(sum.into), place(sum.from), own.bytes);
        const root = received.subarray(0, own.bytes);
        if (scatter) output.set(root, own.first);
        else await this.#gatherPieces(pieces, root, output);
      }
    });
  }

  async barrier(options: ExchangeOptions = {}): Promise<void> {
    await this.agree(0, options);
  }

  async agree(value: number, options: ExchangeOptions = {}): Promise<number> {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** 31) {
      throw new RangeError(`Cannot agree on ${value}: expected an integer from 0 to 2^31 - 1`);
    }
    const word = new Int32Array([value]);
    await this.#exchange("barrier", [6, 0, 0], options, () => this.#maximum(word));
    return word[0]!;
  }

  endStep(milliseconds = 0): void {
    this.#deadline = deadlineAfter(this.#deadlines, milliseconds);
  }

  /** Nothing to do: mpirun ends all ranks when one ends before its {@linkcode leave}. */
  abort(): void {}

  async leave(): Promise<void> {
    await this.barrier();
    pinLibraries();
    this.#mpi.calls.MPI_Finalize();
  }

  /** The sum in the order of ranks: MPI knows no bfloat16. */
  async #reduceBf16(data: Uint16Array<ArrayBuffer>, gather: boolean): Promise<void> {
    const bytes = bytesOfData(data);
    const ones = new Array<number>(this.size).fill(1);
    for (const pieces of this.#pieces(data, this.size)) {
      const own = pieces[this.rank]!;
      const received = await this.#allToAll(pieces, [bytes], ones);
      for (let rank = 1; rank < this.size; rank++) {
        this.#adder.add("bf16", received.byteOffset, received.byteOffset + rank * own.bytes, own.bytes);
      }
      const result = received.subarray(0, own.bytes);
      if (gather) await this.#gatherPieces(pieces, result, bytes);
      else bytes.set(result, own.first);
    }
  }

  /** Cuts every rank's shard into pieces of which `copies` fit a staging area. */
  *#pieces(data: Data, copies: number): Generator<Piece[]> {
    const size = elementBytes[dataType(data)];
    const shards = Array.from({ length: this.size }, (_, rank) => shardOf(data.length, rank, this.size));
    const most = Math.floor(this.#staging / copies / ALIGNMENT) * ALIGNMENT;
    const largest = Math.max(...shards.map(({ begin, end }) => (end - begin) * size));
    for (let at = 0; at < largest; at += most) {
      yield shards.map(({ begin, end }) => {
        const first = Math.min(end * size, begin * size + at);
        return { first, bytes: Math.min(end * size, first + most) - first };
      });
    }
  }

  /** One of the two staging areas. */
  #area(which: 0 | 1, bytes: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#buffer, which * this.#staging, bytes);
  }

  /**
   * Puts pieces of arrays one after another into the first staging area: all arrays' first piece, then their second.
   */
  #pack(pieces: readonly Piece[], ...inputs: Uint8Array[]): [Uint8Array<ArrayBuffer>, Int32Array<ArrayBuffer>] {
    const counts = Int32Array.from(pieces, ({ bytes }) => bytes * inputs.length);
    const area = this.#area(0, counts.reduce((sum, count) => sum + count, 0));
    let at = 0;
    for (const { first, bytes } of pieces) {
      for (const input of inputs) {
        area.set(input.subarray(first, first + bytes), at);
        at += bytes;
      }
    }
    return [area, counts];
  }

  /**
   * Sends each rank its pieces of `inputs`, and returns this rank's pieces of everyone's, by rank and then by input, in
   * the second staging area. `arrays` are the numbers of inputs of all ranks.
   */
  async #allToAll(
    pieces: readonly Piece[],
    inputs: Uint8Array[],
    arrays: readonly number[],
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { calls, types, world } = this.#mpi;
    const [area, sent] = this.#pack(pieces, ...inputs);
    const own = pieces[this.rank]!.bytes;
    const received = this.#keep(Int32Array.from(arrays, (count) => count * own));
    const output = this.#area(1, received.reduce((sum, count) => sum + count, 0));
    const [from, to] = [this.#keep(offsets(sent)), this.#keep(offsets(received))];
    await this.#watch.wait(
      calls.MPI_Alltoallv(area, this.#keep(sent), from, types.u8, output, received, to, types.u8, world),
    );
    return output;
  }

  /** Collects one piece from each rank and writes all to their places in `output`. */
  async #gatherPieces(pieces: readonly Piece[], own: Uint8Array, output: Uint8Array): Promise<void> {
    const { calls, types, world } = this.#mpi;
    const counts = this.#keep(Int32Array.from(pieces, ({ bytes }) => bytes));
    const places = this.#keep(offsets(counts));
    const area = this.#area(0, counts.reduce((sum, count) => sum + count, 0));
    area.set(own, places[this.rank]!);
    await this.#watch.wait(
      calls.MPI_Allgatherv(IN_PLACE, 0, types.u8, area, counts, places, types.u8, world),
    );
    pieces.forEach(({ first, bytes }, rank) => {
      output.set(area.subarray(places[rank]!, places[rank]! + bytes), first);
    });
  }

  #keep(numbers: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
    this.#kept.push(numbers);
    return numbers;
  }

  async #maximum(words: Int32Array<ArrayBuffer>): Promise<void> {
    const { calls, types, max, world } = this.#mpi;
    await this.#watch.wait(calls.MPI_Allreduce(IN_PLACE, words, words.length, types.i32, max, world));
  }

  async #exchange(
    name: string,
    description: readonly number[],
    options: ExchangeOptions,
    body: () => Promise<void>,
  ): Promise<void> {
    if (this.#busy) throw new Error(`Cannot start ${name}: the previous exchange was not awaited`);
    this.#busy = true;
    const watch = this.#watch;
    watch.deadline = options.deadline ?? this.#deadline;
    watch.activity = name;
    watch.exchange = this.#exchanges++;
    try {
      await this.#compare(name, description);
      await body();
    } finally {
      this.#busy = false;
      this.#kept.length = 0;
    }
  }

  /** Makes sure that all ranks make the same call; MPI itself would hang, or mix up their data. */
  async #compare(name: string, description: readonly number[]): Promise<void> {
    let hash = 0;
    for (const value of description) {
      hash = Math.imul(hash ^ (value % 2 ** 32) ^ Math.floor(value / 2 ** 32), 0x01000193);
    }
    const words = new Int32Array([hash, ~hash]);
    await this.#maximum(words);
    // The largest of x and the largest of -1 - x belong together only when all x are equal.
    if (words[0] !== ~words[1]!) {
      throw new Error(`Ranks must make the same calls: rank ${this.rank} is in ${name} (${description.join(", ")})`);
    }
  }
}

/** Where each of `counts` begins when they follow each other. */
function offsets(counts: Int32Array): Int32Array<ArrayBuffer> {
  let at = 0;
  return Int32Array.from(counts, (count) => (at += count) - count);
}
