/**
 * How training in a worker or in other processes is told to the caller: one kind of message, errors that keep their
 * class, one queue. Messages are what structured clone can copy, so NaN, -0, undefined and arrays of numbers arrive as
 * they left.
 */
import { PeerError } from "../../comm/exchange/communicator.ts";
import { UserError, UserErrors } from "../../errors.ts";
import type { TrainEvent } from "../report/events.ts";

/** What the far side tells. */
export type Message =
  | { readonly kind: "event"; readonly event: TrainEvent }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly error: unknown };

/** An error as plain data: structured clone alone keeps neither its class nor its properties. */
interface PackedError {
  readonly packed: "cogtune error";
  /** Nearest class that both sides know by name. */
  readonly type: string;
  readonly name: string;
  readonly message: string;
  readonly properties: readonly { readonly key: string; readonly value: unknown; readonly enumerable: boolean }[];
}

const prototypes: ReadonlyMap<string, Error> = new Map(
  [
    ...[UserError, UserErrors, PeerError, DOMException],
    ...[Error, AggregateError, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError],
    ...Object.values(Deno.errors),
  ].map(({ name, prototype }) => [name, prototype]),
);

/** A thrown value as structured clone carries it, causes and inner errors included. */
export function packError(thrown: unknown): unknown {
  if (Array.isArray(thrown)) return thrown.map(packError);
  if (!(thrown instanceof Error)) return clonable(thrown) ? thrown : String(thrown);
  let type = Object.getPrototypeOf(thrown);
  while (prototypes.get(type.constructor.name) !== type) type = Object.getPrototypeOf(type);
  const properties = Object.entries(Object.getOwnPropertyDescriptors(thrown)).map(([key, { enumerable }]) => ({
    key,
    value: packError(thrown[key as keyof Error]),
    enumerable: enumerable!,
  }));
  const { name, message } = thrown;
  return { packed: "cogtune error", type: type.constructor.name, name, message, properties } satisfies PackedError;
}

function clonable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

/** The value that {@linkcode packError} was given: an error is one of its class again, with its stack. */
export function unpackError(packed: unknown): unknown {
  if (Array.isArray(packed)) return packed.map(unpackError);
  const record = packed as PackedError | null | undefined;
  if (record?.packed !== "cogtune error") return packed;
  const { type, name, message, properties } = record;
  // The parts of a DOMException are hidden from everybody but its constructor.
  const error: Error = type === "DOMException"
    ? new DOMException(message, name)
    : Object.setPrototypeOf(new Error(message), prototypes.get(type)!);
  for (const { key, value, enumerable } of properties) {
    Object.defineProperty(error, key, { value: unpackError(value), enumerable, writable: true, configurable: true });
  }
  return error;
}

/** Starts a far side that hands its messages to `take`; returns what ends it at once. */
export type Opening = (take: (message: Message) => void) => Promise<() => void | Promise<void>>;

/**
 * Yields the events of a far side in their order until it is done; throws what it failed with, or the reason of
 * `signal` where that was what ended it. However the loop is left, the far side has ended by then.
 */
export async function* receive(open: Opening, signal: AbortSignal | undefined): AsyncGenerator<TrainEvent> {
  let close: Awaited<ReturnType<Opening>>;
  let ended = false;
  const messages = new ReadableStream<Message>({
    async start(controller) {
      close = await open((message) => ended || controller.enqueue(message));
    },
    cancel() {
      ended = true;
      return close();
    },
  });
  // Leaving this loop in any way cancels the stream.
  for await (const message of messages) {
    if (message.kind === "done") return;
    if (message.kind === "event") yield message.event;
    else throw abortReason(signal, unpackError(message.error));
  }
}

/** An abort arrives as a copy of the error that the caller's own signal holds. */
function abortReason(signal: AbortSignal | undefined, error: unknown): unknown {
  return signal?.aborted === true && error instanceof Error && error.name === "AbortError" ? signal.reason : error;
}
