/** What the machine offers: programs, files, memory. */
import { existsSync, readdirSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import process from "node:process";
import { freeBytes } from "../../io/file_operations.ts";
import { findProgram, programEnvironment } from "../../io/program.ts";

/** Output of a program that ran. */
export interface ProgramResult {
  readonly success: boolean;
  /** Standard output, then standard error. */
  readonly text: string;
}

/** The questions that set-up and `doctor` ask; tests answer them without a machine. */
export interface System {
  readonly os: typeof Deno.build.os;
  readonly isRoot: boolean;
  exists(path: string): boolean;
  /** Names in a folder, none when it does not exist. */
  list(folder: string): readonly string[];
  environment(name: string): string | undefined;
  /** Runs a program to its end; undefined when it is not on the PATH. */
  run(program: string, args: readonly string[]): Promise<ProgramResult | undefined>;
  /** Host memory in bytes. */
  memory(): { readonly free: number; readonly total: number };
  /** Free bytes of the disk that holds `path`. */
  freeDisk(path: string): number;
}

/** The machine this process runs on. */
export const thisSystem: System = {
  os: Deno.build.os,
  get isRoot() {
    return process.getuid?.() === 0;
  },
  exists(path) {
    try {
      return existsSync(path);
    } catch (error) {
      // Deno shows device files to programs with all permissions only; to others there is no such device.
      if (path.startsWith("/dev/") && error instanceof Deno.errors.NotCapable) return false;
      throw error;
    }
  },
  list: (folder) => existsSync(folder) ? readdirSync(folder) : [],
  environment: (name) => Deno.env.get(name),
  async run(program, args) {
    const path = findProgram(program);
    if (path === undefined) return undefined;
    const options = { args: [...args], clearEnv: true, env: programEnvironment() };
    const { success, stdout, stderr } = await new Deno.Command(path, options).output();
    return { success, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
  },
  memory: () => ({ free: freemem(), total: totalmem() }),
  freeDisk: freeBytes,
};
