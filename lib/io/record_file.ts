/** Files that grow by whole records while a run goes on. */
import { closeSync, fsyncSync, ftruncateSync, openSync, statSync, writeSync } from "node:fs";
import { fileError } from "./file_operations.ts";

/**
 * A file that records are appended to. One that could not be written as a whole, as on a full disk, is cut off before
 * the next: readers stop at the first broken record, and would miss all that follow it.
 */
export class RecordFile implements Disposable {
  readonly #path: string;
  readonly #file: number;
  #size: number;
  #isTorn = false;

  /**
   * Opens `path` for appending, making it when absent; with `isNew` it must be.
   *
   * @throws {UserError} when it can't be opened.
   */
  constructor(path: string, { isNew = false }: { readonly isNew?: boolean } = {}) {
    this.#path = path;
    try {
      this.#file = openSync(path, isNew ? "ax" : "a");
      this.#size = statSync(path).size;
    } catch (error) {
      throw fileError(error, "open", path);
    }
  }

  /**
   * Appends one record; it reaches the operating system at once.
   *
   * @throws {UserError} when the disk is full or fails; the file ends with the records before.
   */
  append(record: Uint8Array): void {
    try {
      this.#mend();
      this.#isTorn = true;
      for (let at = 0; at < record.length;) at += writeSync(this.#file, record, at);
      this.#isTorn = false;
    } catch (error) {
      throw fileError(error, "write", this.#path, { bytes: record.length, atLeast: true });
    }
    this.#size += record.length;
  }

  /**
   * Puts everything appended so far on disk.
   *
   * @throws {UserError} when the disk is full or fails.
   */
  sync(): void {
    try {
      this.#mend();
      fsyncSync(this.#file);
    } catch (error) {
      throw fileError(error, "write", this.#path);
    }
  }

  #mend(): void {
    if (this.#isTorn) ftruncateSync(this.#file, this.#size);
    this.#isTorn = false;
  }

  [Symbol.dispose](): void {
    try {
      this.sync();
    } finally {
      closeSync(this.#file);
    }
  }
}
