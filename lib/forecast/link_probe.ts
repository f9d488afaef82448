/**
 * Samples of what limits an exchange: copies between GPU and host, and sums between processes, as training does them.
 */
import type { Communicator } from "../comm/exchange/communicator.ts";
import type { Session } from "../gpu/session.ts";
import { Tensor } from "../plan/tensor.ts";
import type { LinkRates } from "./scaling.ts";

/** What can be measured on one machine. */
export type HostRates = Partial<Omit<LinkRates, "network">>;

/**
 * Bytes of one sample: a block's gradients in a LoRA of the 5B model are half of it, those of all its weights four
 * times.
 */
const BYTES = 32 * 2 ** 20;

/** Samples of all links of the ranks of one host. Every rank takes them at the same time. */
export class LinkProbe {
  readonly #communicator: Communicator;
  readonly #session: Session | undefined;
  readonly #shared: Float32Array<ArrayBuffer>;
  readonly #elsewhere = new Float32Array(BYTES / 4);
  readonly #onGpu = new Tensor("link probe", [BYTES / 4], "f32", { resident: true });
  readonly #word = new Tensor("link probe word", [4], "f32", { resident: true });
  readonly #seconds: { transfer: number[]; memory: number[]; staged: number[] } = {
    transfer: [],
    memory: [],
    staged: [],
  };

  /** A rank without a `session` takes part in exchanges only. */
  constructor(communicator: Communicator, session: Session | undefined) {
    this.#communicator = communicator;
    this.#session = session;
    this.#shared = communicator.allocate("f32", BYTES / 4);
  }

  /** Takes one sample of everything; returns the seconds that they took, the same on every rank. */
  async sample(): Promise<number> {
    const { transfer, memory, staged } = this.#seconds;
    const began = performance.now();
    const [there, wait] = [await this.#time(() => this.#transfer()), await this.#time(() => this.#wait())];
    // The way there and back waits twice for the engine, which says nothing about the link.
    if (this.#session !== undefined && there > 2 * wait) transfer.push(there - 2 * wait);
    memory.push(await this.#time(() => this.#communicator.allReduce(this.#shared)));
    staged.push(
      await this.#time(async () => {
        await this.#communicator.reduceScatter(this.#elsewhere);
        await this.#communicator.allGather(this.#elsewhere);
      }),
    );
    return await this.#slowest((performance.now() - began) / 1000);
  }

  /** Forgets what was sampled: the first samples touch fresh memory. */
  reset(): void {
    for (const samples of Object.values(this.#seconds)) samples.length = 0;
  }

  /** Rates of the median samples; without those that this group has no link for. */
  rates(): HostRates {
    const { size } = this.#communicator;
    const { transfer, memory, staged } = this.#seconds;
    // A ring sends (N - 1) / N of the payload twice.
    const sent = 2 * (size - 1) / size * BYTES;
    return {
      ...(transfer.length === 0 ? {} : { transfer: 2 * BYTES / median(transfer) }),
      ...(size === 1 ? {} : { memory: sent / median(memory), staged: sent / median(staged) }),
    };
  }

  /** Seconds of the slowest rank. */
  async #time(body: () => Promise<void>): Promise<number> {
    await this.#communicator.barrier();
    const start = performance.now();
    await body();
    return await this.#slowest((performance.now() - start) / 1000);
  }

  async #slowest(seconds: number): Promise<number> {
    return await this.#communicator.agree(Math.round(seconds * 1e6)) / 1e6;
  }

  async #transfer(): Promise<void> {
    if (this.#session === undefined) return;
    this.#shared.set(await this.#session.readF32(this.#onGpu));
    this.#session.write(this.#onGpu, this.#shared);
    await this.#wait();
  }

  async #wait(): Promise<void> {
    await this.#session?.read([this.#word]);
  }
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[samples.length >> 1]!;
}
