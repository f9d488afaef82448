/**
 * SHA-256 of clips and model weights, remembered between runs: at 0.8 GB/s an 11 GB transformer takes 14 s, a look at
 * its times none.
 */
import { createHash } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { writeFileAtomic } from "../../io/atomic.ts";
import { sha256File } from "../../io/hash.ts";

/**
 * What must be unchanged for a remembered hash to hold. The change time is the kernel's own: a program that rewrites a
 * file and sets its modification time back still moves it.
 */
interface Remembered {
  readonly size: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
  readonly inode: string;
  readonly sha256: string;
}

/** A file changed this recently may change again within the clock's granularity, so its hash is not remembered. */
const SETTLED_NS = 2_000_000_000n;

function isRemembered(value: unknown): value is Remembered {
  const fields = ["size", "mtimeNs", "ctimeNs", "inode", "sha256"];
  return typeof value === "object" && value !== null &&
    fields.every((field) => typeof (value as Record<string, unknown>)[field] === "string");
}

function look(path: string): Omit<Remembered, "sha256"> & { changedNs: bigint } {
  const { size, mtimeNs, ctimeNs, ino } = statSync(path, { bigint: true });
  const text = { size: `${size}`, mtimeNs: `${mtimeNs}`, ctimeNs: `${ctimeNs}`, inode: `${ino}` };
  return { ...text, changedNs: ctimeNs > mtimeNs ? ctimeNs : mtimeNs };
}

function same(a: Omit<Remembered, "sha256">, b: Omit<Remembered, "sha256">): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.inode === b.inode;
}

async function readMemory(path: string): Promise<Map<string, Remembered>> {
  try {
    const json: unknown = JSON.parse(await Deno.readTextFile(path));
    const entries = Object.entries(json as Record<string, unknown>);
    return new Map(entries.filter((entry): entry is [string, Remembered] => isRemembered(entry[1])));
  } catch {
    // Missing or damaged: hashes are computed again.
    return new Map();
  }
}

/** Hashes of files, each computed once until the file changes. */
export class FileHashes {
  readonly #path: string;
  readonly #memory: Map<string, Remembered>;
  readonly #running = new Map<string, Promise<string>>();
  /** Files that had to be read since this object was opened. */
  hashed = 0;

  readonly #estimate: boolean;

  private constructor(path: string, memory: Map<string, Remembered>, estimate: boolean) {
    this.#path = path;
    this.#memory = memory;
    this.#estimate = estimate;
  }

  /**
   * Opens the memory kept in `folder`, which must exist by the time of {@linkcode FileHashes.save}. With `estimate` no
   * file is read: one that is not remembered, so that the cache can hold nothing of it, gets a hash of its own.
   */
  static async open(folder: string, { estimate = false }: { readonly estimate?: boolean } = {}): Promise<FileHashes> {
    const path = join(folder, "file-hashes.json");
    return new FileHashes(path, await readMemory(path), estimate);
  }

  /**
   * SHA-256 of a file in lower-case hexadecimal.
   *
   * @throws {Error} as the system reports it, if the file cannot be read.
   */
  file(path: string): Promise<string> {
    const absolute = resolve(path);
    let running = this.#running.get(absolute);
    if (running === undefined) {
      running = this.#hash(absolute).finally(() => this.#running.delete(absolute));
      this.#running.set(absolute, running);
    }
    return running;
  }

  async #hash(path: string): Promise<string> {
    for (;;) {
      const before = look(path);
      const known = this.#memory.get(path);
      if (known !== undefined && same(known, before)) return known.sha256;
      if (this.#estimate) return createHash("sha256").update(`not read: ${path} ${before.size}`).digest("hex");
      const sha256 = await sha256File(path);
      this.hashed++;
      // A file that changed while it was read has a hash of no state it was ever in.
      if (!same(before, look(path))) continue;
      const { changedNs, ...seen } = before;
      if (BigInt(Date.now()) * 1_000_000n - changedNs > SETTLED_NS) this.#memory.set(path, { ...seen, sha256 });
      else this.#memory.delete(path);
      return sha256;
    }
  }

  /** One hash over the contents of files in this order: the identity of a model component such as `vae/`. */
  async files(paths: readonly string[]): Promise<string> {
    const hash = createHash("sha256");
    for (const path of paths) hash.update(await this.file(path));
    return hash.digest("hex");
  }

  /** Writes the memory, keeping what other runs have added; files that are gone are forgotten. */
  async save(): Promise<void> {
    const merged = await readMemory(this.#path);
    for (const [path, entry] of this.#memory) merged.set(path, entry);
    for (const path of merged.keys()) if (!existsSync(path)) merged.delete(path);
    await writeFileAtomic(this.#path, `${JSON.stringify(Object.fromEntries(merged), null, 1)}\n`);
  }
}
