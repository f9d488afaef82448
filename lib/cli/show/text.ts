/** Numbers and tables as people read them. */

/** Bytes in the unit that suits them, as "1.50 GiB". */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  // Three digits, except that up to 1023 of a unit are still less than one of the next.
  return unit === 0 ? `${value} bytes` : `${value >= 1000 ? value.toFixed(0) : value.toPrecision(3)} ${units[unit]}`;
}

/** Floating-point operations in the unit that suits them, as "1.50 TFLOP". */
export function formatFlops(flops: number): string {
  const [unit, size] = flops >= 1e15
    ? ["PFLOP", 1e15] as const
    : flops >= 1e12
    ? ["TFLOP", 1e12] as const
    : ["GFLOP", 1e9] as const;
  return `${(flops / size).toPrecision(3)} ${unit}`;
}

/** Seconds as "2 d 3 h", "4 h 5 min", "6 min 7 s" or "8 s". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
  ];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return `${minutes} min ${whole % 60} s`;
  return `${whole} s`;
}

/** Rows as lines with aligned columns; columns of figures are aligned at their right. */
export function formatTable(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const texts = [header, ...rows.map((row) => row.map(String))];
  const widths = header.map((_, column) => Math.max(...texts.map((row) => row[column]!.length)));
  const numeric = header.map((_, column) => rows.every((row) => typeof row[column] === "number"));
  return texts.map((row) =>
    row.map((cell, column) => numeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)).join(
      "  ",
    )
      .trimEnd()
  );
}

/** Breaks text at spaces into lines of at most `width` letters. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
