/** Lines that a terminal shows in one row, whatever its width. */

/** Letters of East Asian scripts and emoji, which fill two cells of a row. */
const WIDE = /^[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\u{1f000}-\u{3ffff}]/u;

/** As much of the beginning of a text as fits into a number of cells. */
export function cutToCells(text: string, cells: number): string {
  let end = 0;
  let used = 0;
  for (const character of text) {
    used += WIDE.test(character) ? 2 : 1;
    if (used > cells) break;
    end += character.length;
  }
  return text.slice(0, end);
}

/** One figure of a line, and how much it is missed: where room is short, the highest `rank` goes first. */
export interface LinePart {
  readonly text: string;
  readonly rank: number;
}

/** A bar that is filled by `share`, 0 to 1, and as many parts beside it as `columns` have room for. */
export function progressLine(share: number, parts: readonly LinePart[], columns: number): string {
  // By the width of the window alone: a bar that takes what the figures leave would jump with every digit.
  const length = Math.max(10, Math.min(30, Math.floor(columns / 6)));
  const filled = Math.floor(length * Math.min(1, share));
  const kept = [...parts];
  const text = () => kept.map(({ text }) => text).join("  ");
  // One column stays free for the cursor, one parts bar and text.
  while (kept.length > 1 && length + 1 + text().length > columns - 1) {
    const least = Math.max(...kept.map(({ rank }) => rank));
    kept.splice(kept.findIndex(({ rank }) => rank === least), 1);
  }
  return `${"█".repeat(filled)}${"░".repeat(length - filled)} ${text()}`;
}
