/**
 * The global scope as a worker sees it. The types of a program lack it, and registries refuse the directive that would
 * bring them.
 */

/** What a worker tells and hears through. */
interface WorkerScope {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  onmessage: (event: MessageEvent) => void;
}

export const workerScope = globalThis as unknown as WorkerScope;
