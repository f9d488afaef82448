/** Videos and pictures of runs over HTTP, in the ranges that players ask for (RFC 9110, section 14). */

/** Files that are served, by their endings; weights, configs and pages of other hands are not. */
const TYPES: ReadonlyMap<string, string> = new Map([
  ["mp4", "video/mp4"],
  ["webm", "video/webm"],
  ["gif", "image/gif"],
  ["png", "image/png"],
  ["jpg", "image/jpeg"],
  ["jpeg", "image/jpeg"],
]);

/** Bytes read at a time. */
const PIECE = 1 << 16;

/** The media type of a file, by its name; undefined for what is not served. */
export function mediaType(name: string): string | undefined {
  return TYPES.get(/\.(\w+)$/.exec(name)?.[1]?.toLowerCase() ?? "");
}

/**
 * The first and last byte that a Range header asks for; the whole file for several ranges and for what is no range, as
 * a server may choose; undefined when there are no such bytes.
 */
function rangeOf(header: string | null, size: number): readonly [first: number, last: number] | undefined {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === undefined || (from === "" && to === "")) return [0, size - 1];
  if (from === "") return to === "0" || size === 0 ? undefined : [Math.max(0, size - Number(to)), size - 1];
  if (Number(from) >= size || (to !== "" && Number(to) < Number(from))) return undefined;
  return [Number(from), to === "" ? size - 1 : Math.min(Number(to), size - 1)];
}

/** `length` bytes of an open file from `first` on, which is closed behind them. */
function bytesOf(file: Deno.FsFile, first: number, length: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let left = length;
  file.seekSync(first, Deno.SeekMode.Start);
  return new ReadableStream({
    async pull(controller) {
      const buffer = new Uint8Array(Math.min(PIECE, left));
      const count = left === 0 ? null : await file.read(buffer);
      if (count === null) {
        file.close();
        return controller.close();
      }
      left -= count;
      controller.enqueue(buffer.subarray(0, count));
    },
    cancel: () => file.close(),
  });
}

/** Answers with a file of a type that is served. */
export async function mediaResponse(request: Request, path: string, type: string): Promise<Response> {
  const file = await Deno.open(path);
  const { size, mtime } = await file.stat();
  const etag = `"${size}-${mtime?.getTime() ?? 0}"`;
  const headers = new Headers({ "content-type": type, "accept-ranges": "bytes", etag });
  const answer = (status: number) => {
    file.close();
    return new Response(null, { status, headers });
  };
  if (request.headers.get("if-none-match") === etag) return answer(304);
  // A part of another version of the file is of no use to who has the rest of this one.
  const isSame = [null, etag].includes(request.headers.get("if-range"));
  const asked = isSame ? request.headers.get("range") : null;
  const range = rangeOf(asked, size);
  if (range === undefined) {
    headers.set("content-range", `bytes */${size}`);
    return answer(416);
  }
  const [first, last] = range;
  const length = last - first + 1;
  const isPart = asked !== null && length < size;
  headers.set("content-length", String(length));
  if (isPart) headers.set("content-range", `bytes ${first}-${last}/${size}`);
  const status = isPart ? 206 : 200;
  if (request.method === "HEAD") return answer(status);
  return new Response(bytesOf(file, first, length), { status, headers });
}
