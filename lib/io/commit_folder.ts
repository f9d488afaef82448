/** Folders that are whole or not there: written aside, hashed into a manifest, then renamed. */
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { problemOf, UserError } from "../errors.ts";
import { removeQuietly, temporaryName, writeFileAtomic } from "./atomic.ts";
import { bytesRefused, fileError, fileOperations, requireFreeBytes } from "./file_operations.ts";
import type { FileOperations } from "./file_operations.ts";
import { sha256File } from "./hash.ts";
import { JsonScanner } from "./json_scanner.ts";

/** Name of the file that lists the others; a folder without it was never finished. */
export const manifestName = "manifest.json";

const manifestVersion = 1;

/** One file of a committed folder. */
export interface ManifestFile {
  /** Path inside the folder, with forward slashes. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256, lower-case hexadecimal. */
  readonly sha256: string;
}

/** Options of {@linkcode commitFolder}. */
export interface CommitOptions {
  /** Bytes the folder will have: 1.1 times as many must be free before anything is written. */
  readonly expectedBytes?: number;
  /**
   * Whether an existing folder of this name may be replaced; otherwise it is an error. One without a manifest never is:
   * somebody else made it.
   */
  readonly replace?: boolean;
  /** Replaced by tests. */
  readonly operations?: FileOperations;
}

/**
 * Writes a folder so that a crash at any moment leaves either nothing of it or all of it: `write` fills a temporary
 * folder in the same parent, every file is hashed and fsynced, the manifest is written, the folder is renamed, the
 * parent fsynced. After a failure the temporary folder is gone and everything else is as it was.
 *
 * @param write creates files, and folders, inside the folder it is given; `manifest.json` is not for it.
 * @returns what the manifest lists.
 * @throws {UserError} when the disk is full, the folder exists already, or it can't be written.
 */
export async function commitFolder(
  path: string,
  write: (temporaryFolder: string) => void | Promise<void>,
  options: CommitOptions = {},
): Promise<ManifestFile[]> {
  const operations = options.operations ?? fileOperations;
  path = resolve(path);
  const exists = existsSync(path);
  if (exists && !options.replace) {
    throw new UserError(`"${path}" exists already`, "choose another folder, or remove it if it is not needed");
  }
  if (exists) requireCommitted(path);
  // Cluster and journal overhead grow with the files; a tenth covers it.
  if (options.expectedBytes !== undefined) requireFreeBytes(path, Math.ceil(options.expectedBytes * 1.1));
  const temporary = temporaryName(path, "tmp");
  const old = exists ? temporaryName(path, "old") : undefined;
  let files: ManifestFile[];
  try {
    operations.makeFolder(temporary);
    await write(temporary);
    files = await sealFolder(temporary, operations);
    publish(temporary, path, old, operations);
  } catch (error) {
    const written = treeBytes(temporary) + bytesRefused(error);
    const expected = options.expectedBytes ?? 0;
    const wanted = { bytes: Math.max(written, expected), atLeast: written >= expected };
    removeQuietly(operations, temporary);
    throw fileError(error, "write", path, wanted);
  }
  if (old !== undefined) removeQuietly(operations, old);
  return files;
}

/**
 * Makes sure that what is there was committed, so that replacing it loses nothing of anybody else.
 *
 * @throws {UserError} when it holds no manifest.
 */
export function requireCommitted(path: string): void {
  if (existsSync(join(path, manifestName))) return;
  throw new UserError(
    `"${path}" exists and holds no ${manifestName}: it was not made here, and replacing it would lose it`,
    "move it away, or choose another folder",
  );
}

/** Gives the sealed folder its name, moving an existing one to `old`; undoes its renames when one of them fails. */
function publish(temporary: string, path: string, old: string | undefined, operations: FileOperations): void {
  const undo: (() => void)[] = [];
  function rename(from: string, to: string): void {
    operations.rename(from, to);
    undo.unshift(() => operations.rename(to, from));
  }
  try {
    if (old !== undefined) rename(path, old);
    rename(temporary, path);
    operations.syncPath(dirname(path));
  } catch (error) {
    for (const step of undo) step();
    throw error;
  }
}

/** Hashes and fsyncs every file, writes the manifest, fsyncs the folders. */
async function sealFolder(folder: string, operations: FileOperations): Promise<ManifestFile[]> {
  const { files, folders } = listTree(folder);
  if (files.includes(manifestName)) {
    throw new Error(`"${manifestName}" is written by commitFolder, not by its callback`);
  }
  const entries: ManifestFile[] = [];
  for (const name of files) {
    const path = join(folder, name);
    operations.syncPath(path);
    entries.push({ name, size: lstatSync(path).size, sha256: await sha256File(path) });
  }
  for (const name of folders) operations.syncPath(join(folder, name));
  const manifest = JSON.stringify({ version: manifestVersion, files: entries }, null, 2);
  // Writing it atomically also fsyncs the folder.
  await writeFileAtomic(join(folder, manifestName), manifest + "\n", { operations });
  return entries;
}

/** What {@linkcode verifyFolder} found. */
export interface FolderReport {
  /** Everything that makes the folder unusable; empty when it is as it was committed. */
  readonly problems: string[];
  /** Files the manifest does not list; they are ignored. */
  readonly extras: string[];
}

/**
 * Compares a committed folder with its manifest and lists every difference.
 *
 * @param options.hashes whether contents are read and hashed (default), or only names and sizes compared.
 */
export async function verifyFolder(path: string, options: { hashes?: boolean } = {}): Promise<FolderReport> {
  const problems: string[] = [];
  let manifest: ManifestFile[];
  try {
    manifest = readManifest(path);
  } catch (error) {
    return { problems: [problemOf(error)], extras: [] };
  }
  for (const { name, size, sha256 } of manifest) {
    const file = join(path, name);
    const stat = existsSync(file) ? lstatSync(file) : undefined;
    if (!stat?.isFile()) problems.push(`"${name}" is missing`);
    else if (stat.size !== size) problems.push(`"${name}" has ${stat.size} bytes, the manifest says ${size}`);
    else if (options.hashes !== false) {
      const found = await sha256File(file);
      if (found !== sha256) problems.push(`"${name}" has SHA-256 ${found}, the manifest says ${sha256}`);
    }
  }
  const listed = new Set([manifestName, ...manifest.map(({ name }) => name)]);
  return { problems, extras: listTree(path).files.filter((name) => !listed.has(name)) };
}

/**
 * The manifest of a committed folder.
 *
 * @throws {UserError} when it is missing, damaged, or of another version.
 */
export function readManifest(folder: string): ManifestFile[] {
  const path = join(folder, manifestName);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (error instanceof TypeError) throw new UserError(`"${path}" is not UTF-8 text`);
    throw fileError(error, "read", path);
  }
  const scanner = new JsonScanner(text, `"${path}"`);
  let files: ManifestFile[] | undefined;
  let version: number | undefined;
  scanner.object("the manifest", (key) => {
    if (key === "version") version = scanner.integer("version");
    else if (key === "files") {
      const listed = files = [] as ManifestFile[];
      scanner.array("files", () => listed.push(readEntry(scanner)));
    } // A damaged name of a field must not pass for one to skip: without its list every folder is as it should be.
    else scanner.fail(`unknown field ${JSON.stringify(key)}`);
  });
  scanner.end();
  if (version !== manifestVersion) {
    throw new UserError(`"${path}" has version ${version}, this program reads version ${manifestVersion}`);
  }
  if (files === undefined) throw new UserError(`"${path}" lists no files`);
  return files;
}

function readEntry(scanner: JsonScanner): ManifestFile {
  let name: string | undefined, size: number | undefined, sha256: string | undefined;
  scanner.object("a file entry", (key) => {
    if (key === "name") name = scanner.string("name");
    else if (key === "size") size = scanner.integer("size");
    else if (key === "sha256") sha256 = scanner.string("sha256");
    else scanner.fail(`unknown field ${JSON.stringify(key)}`);
  });
  if (name === undefined || size === undefined || !/^[0-9a-f]{64}$/.test(sha256 ?? "")) {
    scanner.fail("a file entry without name, size or sha256");
  }
  // A manifest from elsewhere must not make us read outside the folder.
  if (name === "" || name.split(/[/\\]/).some((part) => part === "" || part === "." || part === "..")) {
    scanner.fail(`file name ${JSON.stringify(name)} is not inside the folder`);
  }
  return { name, size, sha256: sha256! };
}

/** Files and folders below `root`, relative and with forward slashes, folders before what holds them. */
function listTree(root: string): { files: string[]; folders: string[] } {
  const files: string[] = [];
  const folders: string[] = [];
  function visit(relative: string): void {
    for (const entry of readdirSync(join(root, relative), { withFileTypes: true })) {
      const name = relative === "" ? entry.name : `${relative}/${entry.name}`;
      if (entry.isDirectory()) {
        visit(name);
        folders.push(name);
      } else files.push(name);
    }
  }
  visit("");
  return { files: files.sort(), folders };
}

function treeBytes(root: string): number {
  if (!existsSync(root)) return 0;
  return listTree(root).files.reduce((sum, name) => sum + lstatSync(join(root, name)).size, 0);
}
