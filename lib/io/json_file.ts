/** Reads small JSON files with messages that name the file. */
import { readFileSync } from "node:fs";
import { messageOf, UserError } from "../errors.ts";
import { causeOf } from "./file_operations.ts";

/**
 * Reads a file that must hold a JSON object.
 *
 * @throws {UserError} when it cannot be read, is no JSON, or holds something else; `hint` says what to do.
 */
export function readJsonObject(path: string, hint?: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new UserError(`Cannot read "${path}": ${causeOf(error).reason}`, hint);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new UserError(`"${path}" is not JSON: ${messageOf(error)}`, hint);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new UserError(`"${path}" does not hold a JSON object`, hint);
  }
  return json as Record<string, unknown>;
}
