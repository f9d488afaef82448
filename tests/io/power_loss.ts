/**
 * What a disk may hold after a loss of power, for a log of operations: names that were changed since their folder was last
 * forced to the disk may be as before, from any of these changes on; bytes that were written since the last fsync of their file
 * may be missing, cut, zero or there. Folders and files are independent of each other.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { type FileOperations, fileOperations } from "../../lib/io/file_operations.ts";

interface File {
  readonly kind: "file";
  /** As written, and as it was at the last fsync. */
  bytes: Uint8Array;
  durable: Uint8Array;
}

interface Folder {
  readonly kind: "folder";
  readonly durable: Map<string, Node>;
  /** Changes of names since the last fsync: a node, or undefined where a name went. */
  pending: (readonly [name: string, node: Node | undefined])[][];
}

type Node = File | Folder;

const newFolder = (): Folder => ({ kind: "folder", durable: new Map(), pending: [] });

/** The names of a folder after its first `changes` changes. */
function entriesOf({ durable, pending }: Folder, changes = pending.length): Map<string, Node> {
  const entries = new Map(durable);
  for (const [name, node] of pending.slice(0, changes).flat()) {
    if (node === undefined) entries.delete(name);
    else entries.set(name, node);
  }
  return entries;
}

/** A disk that remembers what is safe on it. */
export class Disk {
  readonly #root: string;
  readonly #top = newFolder();
  /** Operations so far. */
  count = 0;
  /** Called after each operation. */
  onOperation: () => void = () => {};

  /** @param root folder that the disk begins with, empty. */
  constructor(root: string) {
    this.#root = root;
  }

  #find(path: string): Node {
    let node: Node = this.#top;
    for (const part of relative(this.#root, path).split("/").filter((part) => part !== "")) {
      node = entriesOf(node as Folder).get(part)!;
    }
    return node;
  }

  /** One change of the names of a folder, of which all or nothing reaches the disk. */
  #change(folder: string, ...names: readonly (readonly [string, Node | undefined])[]): void {
    (this.#find(folder) as Folder).pending.push([...names]);
  }

  /** The real operations, noted here. */
  get operations(): FileOperations {
    const real = fileOperations, paths = new Map<number, string>();
    const name = (path: string) => path.slice(dirname(path).length + 1);
    const done = <T>(value: T): T => {
      this.count++;
      this.onOperation();
      return value;
    };
    return {
      create: (path) => {
        const descriptor = real.create(path);
        paths.set(descriptor, path);
        this.#change(dirname(path), [name(path), { kind: "file", bytes: new Uint8Array(), durable: new Uint8Array() }]);
        return done(descriptor);
      },
      write: (descriptor, bytes) => {
        const written = real.write(descriptor, bytes.subarray(0, 1 + bytes.length / 2));
        const file = this.#find(paths.get(descriptor)!) as File;
        file.bytes = new Uint8Array([...file.bytes, ...bytes.subarray(0, written)]);
        return done(written);
      },
      sync: (descriptor) => {
        this.#settle(paths.get(descriptor)!);
        done(real.sync(descriptor));
      },
      close: (descriptor) => done(real.close(descriptor)),
      syncPath: (path) => {
        this.#settle(path);
        done(real.syncPath(path));
      },
      rename: (from, to) => {
        const node = this.#find(from);
        this.#change(dirname(from), [name(from), undefined], [name(to), node]);
        done(real.rename(from, to));
      },
      makeFolder: (path) => {
        this.#change(dirname(path), [name(path), newFolder()]);
        done(real.makeFolder(path));
      },
      remove: (path) => {
        const node = entriesOf(this.#find(dirname(path)) as Folder).get(name(path));
        if (node !== undefined) {
          clear(node);
          this.#change(dirname(path), [name(path), undefined]);
        }
        done(real.remove(path));
      },
    };
  }

  #settle(path: string): void {
    const node = this.#find(path);
    if (node.kind === "file") node.durable = node.bytes;
    else {
      for (const [name, entry] of entriesOf(node)) node.durable.set(name, entry);
      for (const name of node.durable.keys()) if (!entriesOf(node).has(name)) node.durable.delete(name);
      node.pending = [];
    }
  }

  /** Writes one state that a loss of power now may leave to `target`; `choose(n)` picks from 0 to n - 1. */
  lose(target: string, choose: (count: number) => number): void {
    leave(this.#top, target, choose);
  }
}

/** Removes everything in a folder, name by name. */
function clear(node: Node): void {
  if (node.kind === "file") return;
  for (const [name, entry] of entriesOf(node)) {
    clear(entry);
    node.pending.push([[name, undefined]]);
  }
}

function leave(node: Node, path: string, choose: (count: number) => number): void {
  if (node.kind === "folder") {
    mkdirSync(path);
    for (const [name, entry] of entriesOf(node, choose(node.pending.length + 1))) {
      leave(entry, join(path, name), choose);
    }
    return;
  }
  const { bytes, durable } = node;
  const unsafe = bytes.length - durable.length;
  const zeros = new Uint8Array([...durable, ...new Uint8Array(unsafe)]);
  const ends = unsafe === 0 ? [bytes] : [durable, bytes.subarray(0, durable.length + (unsafe >> 1)), zeros, bytes];
  writeFileSync(path, ends[choose(ends.length)]!);
}
