/** The output of ranks, line by line. */

/** A line that a rank printed. */
export interface RankLine {
  readonly rank: number;
  readonly stream: "out" | "error";
  /** Without its line end. */
  readonly text: string;
}

/** Reads a stream to its end and hands on its lines; the last may lack a line end. */
export async function readLines(
  stream: ReadableStream<Uint8Array>,
  rank: number,
  name: RankLine["stream"],
  onLine: (line: RankLine) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = parts.pop()!;
    for (const text of parts) onLine({ rank, stream: name, text: text.replace(/\r$/, "") });
  }
  rest += decoder.decode();
  if (rest !== "") onLine({ rank, stream: name, text: rest });
}
