/** Reads another trainer's config file or command line into settings by key. */
import { parse as parseToml } from "smol-toml";
import { parse as parseYaml } from "yaml";
import { messageOf, UserError } from "../../errors.ts";
import type { ForeignSource, ForeignValue } from "./foreign.ts";
import { readProgramCall } from "./shell.ts";

/** Flags of `accelerate launch` and `torchrun` that say something about a run. */
const LAUNCHER_FLAGS = ["num_processes", "nproc_per_node", "mixed_precision"];

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Settings of nested tables under the names of their path; tables in a list go by their position. */
function flatten(value: unknown, path: string, into: Map<string, ForeignValue>): void {
  const inside = path === "" ? "" : `${path}.`;
  if (isTable(value)) {
    for (const [key, inner] of Object.entries(value)) flatten(inner, `${inside}${key}`, into);
  } else if (Array.isArray(value) && value.some(isTable)) {
    value.forEach((inner, i) => flatten(inner, `${inside}${i}`, into));
  } else into.set(path, value as ForeignValue);
}

/** Configs of trainers have some hundred lines; see the limit of our own in `../sources.ts`. */
const MAX_YAML = 2 ** 17;

function readDocument(kind: "yaml" | "toml", text: string, name: string): Map<string, ForeignValue> {
  if (kind === "yaml" && text.length > MAX_YAML) {
    throw new UserError(`${name}: ${text.length} bytes is too long for a config`, "give the config alone");
  }
  const values = new Map<string, ForeignValue>();
  try {
    flatten(kind === "toml" ? parseToml(text) : parseYaml(text, { maxAliasCount: 0 }), "", values);
  } catch (error) {
    const [reason] = messageOf(error).split("\n");
    throw new UserError(`${name}: cannot be read as ${kind.toUpperCase()} (${reason})`, "mend the file where it says");
  }
  return values;
}

/**
 * Reads `text`, whose name tells what it is: `.yaml`, `.toml`, else a script or command line.
 *
 * @throws {UserError} when it holds no settings.
 */
export function readForeign(text: string, name: string, folder: string): ForeignSource {
  const kind = /\.toml$/i.test(name) ? "toml" : /\.ya?ml$/i.test(name) ? "yaml" : "command";
  if (kind !== "command") return { kind, program: "", values: readDocument(kind, text, name), folder };
  const call = readProgramCall(text);
  if (call === undefined) {
    throw new UserError(
      `${name}: no call of a training program with --flags was found in it`,
      "give the script that starts the training, its command line in quotes, or its YAML or TOML file",
    );
  }
  const values = new Map<string, ForeignValue>(
    [...call.launcher].filter(([flag]) => LAUNCHER_FLAGS.includes(flag)),
  );
  for (const [flag, words] of call.flags) values.set(flag, words);
  return { kind, program: call.program, values, folder };
}
