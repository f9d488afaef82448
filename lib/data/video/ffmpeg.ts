/** Runs ffmpeg and ffprobe as child processes that can neither hang, flood memory nor stop unexplained. */
import { UserError } from "../../errors.ts";
import { fileError } from "../../io/file_operations.ts";
import { endProgram, findProgram, programEnvironment } from "../../io/program.ts";

/** The programs that read and write clips and pictures. */
export const TOOLS = ["ffmpeg", "ffprobe"] as const;

/** How to get both tools, as a command that can be pasted. */
const INSTALL_HINT =
  "install ffmpeg 5.1 or later: sudo apt-get install -y ffmpeg (macOS: brew install ffmpeg, Windows: winget install ffmpeg)";

/** Only these bytes of what a tool says are kept: the first line names the cause, a flood repeats it. */
const MAX_ERROR_BYTES = 16 * 1024;

/** A whole clip decodes in seconds; only a hanging tool reaches this. */
const DEFAULT_SECONDS = 600;

/** Options of {@linkcode runTool}. */
export interface RunToolOptions {
  /** Receives standard output piece by piece; `false` ends the tool because it said more than was asked for. */
  readonly onOutput?: (chunk: Uint8Array<ArrayBuffer>) => boolean | void;
  /** Bytes for standard input; without them it is closed. */
  readonly input?: Uint8Array<ArrayBuffer>;
  /** Time limit in seconds (600). */
  readonly seconds?: number;
  /** Ends the tool early. */
  readonly signal?: AbortSignal;
}

/** How a tool ended. */
export interface ToolResult {
  readonly code: number;
  /** First line of standard error, "" when it said nothing. */
  readonly error: string;
}

async function readErrors(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string> {
  const kept: Uint8Array[] = [];
  let bytes = 0;
  for (let piece; !(piece = await reader.read()).done;) {
    if (bytes < MAX_ERROR_BYTES) kept.push(piece.value.slice(0, MAX_ERROR_BYTES - bytes));
    bytes += piece.value.length;
  }
  const text = await new Blob(kept as BlobPart[]).text();
  const [line] = text.trim().split("\n") as [string];
  return line.replace(/ @ 0x[0-9a-f]+/g, "");
}

async function writeInput(stream: WritableStream<Uint8Array>, input: Uint8Array): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(input);
    await writer.close();
  } catch {
    // The tool closed its end first: its exit status and message say why.
    await writer.abort().catch(() => {});
  }
}

function spawnTool(tool: typeof TOOLS[number], args: readonly string[], hasInput: boolean): Deno.ChildProcess {
  const path = findProgram(tool);
  if (path === undefined) throw new UserError(`"${tool}" is not on the PATH`, INSTALL_HINT);
  try {
    return new Deno.Command(path, {
      args: [...args],
      clearEnv: true,
      env: programEnvironment(),
      stdin: hasInput ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
      // Ctrl-C of a terminal would end it before this program knows, and a sound clip would pass for a damaged one.
      detached: true,
    }).spawn();
  } catch (error) {
    throw fileError(error, "start", path);
  }
}

/**
 * Runs `tool` with an argument list (no shell), reading both outputs together so that neither pipe can fill up.
 *
 * @param what Name used in errors, such as the path of the clip.
 * @throws {UserError} if the tool is missing, was ended by a signal, or exceeded its time limit or output.
 */
export async function runTool(
  tool: typeof TOOLS[number],
  args: readonly string[],
  what: string,
  options: RunToolOptions = {},
): Promise<ToolResult> {
  const { onOutput, input, seconds = DEFAULT_SECONDS, signal } = options;
  signal?.throwIfAborted();
  const child = spawnTool(tool, args, input !== undefined);
  let stopped: "time" | "output" | "abort" | undefined;
  const [output, errors] = [child.stdout.getReader(), child.stderr.getReader()];
  const stop = (why: "time" | "output" | "abort") => {
    stopped ??= why;
    endProgram(child);
    // What the tool has started may outlive it, and hold both open.
    for (const reader of [output, errors]) reader.cancel().catch(() => {});
  };
  const timer = setTimeout(() => stop("time"), seconds * 1000);
  const onAbort = () => stop("abort");
  signal?.addEventListener("abort", onAbort);
  try {
    const said = readErrors(errors);
    const written = input === undefined ? Promise.resolve() : writeInput(child.stdin, input);
    for (let piece; !(piece = await output.read()).done;) {
      if (stopped === undefined && onOutput?.(piece.value as Uint8Array<ArrayBuffer>) === false) stop("output");
    }
    const [status, error] = await Promise.all([child.status, said, written]);
    if (stopped === "abort") signal!.throwIfAborted();
    if (stopped === "time") throw new UserError(`${what}: ${tool} did not finish within ${seconds} s and was ended`);
    if (stopped === "output") throw new UserError(`${what}: ${tool} gave more data than was asked for and was ended`);
    if (status.signal !== null) {
      throw new UserError(`${what}: ${tool} crashed (${status.signal})${error && `: ${error}`}`);
    }
    return { code: status.code, error };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/**
 * Version text of the installed ffmpeg, such as "5.1.9-0+deb12u1": part of every cache key, as pixels depend on it.
 *
 * @throws {UserError} if ffmpeg is missing or older than 5.1 (which introduced `-fps_mode`).
 */
export async function ffmpegVersion(): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  await runTool("ffmpeg", ["-version"], "ffmpeg", {
    onOutput: (chunk) => void (text += decoder.decode(chunk, { stream: true })),
  });
  const version = /^ffmpeg version (\S+)/.exec(text)?.[1] ?? "unknown";
  const numbers = /^n?(\d+)\.(\d+)/.exec(version);
  // Builds from a repository checkout carry no release number; they are later than 5.1 in practice.
  if (numbers && (Number(numbers[1]) < 5 || (Number(numbers[1]) === 5 && Number(numbers[2]) < 1))) {
    throw new UserError(`ffmpeg is version ${version}, at least 5.1 is needed`, INSTALL_HINT);
  }
  return version;
}
