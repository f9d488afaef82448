/** The file that stages leave their figures in, one JSON object a line, so that a stage that dies loses nothing it has measured. */

/** Figures of one measurement. */
export type Figures = Readonly<Record<string, unknown>>;

/** One line of the file. */
export interface Row extends Figures {
  readonly stage: string;
  readonly engine: string;
  readonly name: string;
}

/** Appends a row. */
export function append(file: string, row: Row): void {
  Deno.writeTextFileSync(file, `${JSON.stringify(row)}\n`, { append: true });
}

/** All rows; a line that its stage was killed in is left out. */
export function readRows(file: string): Row[] {
  return Deno.readTextFileSync(file).split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line) as Row];
    } catch {
      return [];
    }
  });
}

/** Four significant digits are more than a timing is good for. */
export function rounded(x: number): number {
  return Number(x.toPrecision(4));
}
