/** Tiny clips and damaged files for tests, made by ffmpeg's own generators in a temporary folder. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fitGeometry, type Geometry } from "../../lib/data/video/geometry.ts";
import { UserError } from "../../lib/errors.ts";

/** Runs ffmpeg and fails the test with its message. */
export async function ffmpeg(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("ffmpeg", { args: ["-v", "error", "-nostdin", "-y", ...args] })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

/** A folder that goes away with the test. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "cogtune-data-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** H.264 with B-frames and several groups of pictures, moving; index first unless `extra` says otherwise. */
export function makeClip(path: string, size: string, fps: number, frames: number, extra: string[] = []): Promise<void> {
  const source = ["-f", "lavfi", "-i", `testsrc2=s=${size}:r=${fps}`, "-frames:v", `${frames}`];
  const codec = ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "10", "-pix_fmt", "yuv420p"];
  return ffmpeg(...source, ...codec, "-movflags", "+faststart", ...extra, path);
}

/** RGB frames whose frame i is a plain grey of level `8 * i`. */
export function greySteps(frames: number, width: number, height: number): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(frames * width * height * 3);
  for (let i = 0; i < frames; i++) data.fill(8 * i, i * width * height * 3, (i + 1) * width * height * 3);
  return data;
}

/** Copies the first `bytes` bytes of a file. */
export async function cut(from: string, to: string, bytes: number): Promise<void> {
  await Deno.writeFile(to, (await Deno.readFile(from)).subarray(0, bytes));
}

/** Replaces the PATH while `body` runs. */
export async function withPath(path: string, body: () => Promise<void>): Promise<void> {
  const before = Deno.env.get("PATH")!;
  Deno.env.set("PATH", path);
  try {
    await body();
  } finally {
    Deno.env.set("PATH", before);
  }
}

/** A folder with stand-ins for both tools that run this shell text. */
export async function fakeTools(folder: string, script: string): Promise<string> {
  const bin = join(folder, "bin");
  await Deno.mkdir(bin, { recursive: true });
  for (const tool of ["ffmpeg", "ffprobe"]) {
    await Deno.writeTextFile(join(bin, tool), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  return bin;
}

/** The whole numbers below `n`. */
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** The geometry that scales a picture to a size, whatever its shape. */
export const stretch = (width: number, height: number): Geometry =>
  fitGeometry({ width, height }, { width, height }, "stretch");

/** The message that a promise is rejected with: one line and a hint. */
export async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(() => assert.fail("expected an error"), (error) => error);
  assert.ok(error instanceof UserError, `${error}`);
  const [first] = error.message.split("\n");
  assert.equal(
    error.message,
    error.hint === undefined ? first : `${first}\nHint: ${error.hint}`,
    "one line and a hint",
  );
  return error.message;
}
