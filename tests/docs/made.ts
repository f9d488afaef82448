/**
 * The parts of the documents that are made from the tables of the tests. `deno task made` writes them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { wrapText } from "../../lib/cli/show/text.ts";
import { FORMATS } from "../../lib/data/dataset/formats.ts";
import { TRAINERS } from "../../lib/config/import/trainers.ts";
import { IMPORT_CASES, imported } from "../config/import/cases.ts";
import { type Layout, LAYOUTS } from "../data/dataset/layouts.ts";
import { KINDS } from "../data/video/corpus.ts";
import { fromFileUrl } from "../paths.ts";

/** A part of a document, between comments of its name. */
interface Made {
  readonly file: string;
  readonly name: string;
  readonly text: () => string;
}

/** A table as the formatter lays it out. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, i) => Math.max(3, ...cells.map((row) => [...row[i]!].length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(cells[0]!), line(widths.map((width) => "-".repeat(width))), ...cells.slice(1).map(line)].join("\n");
}

/** Prose as the formatter breaks it. */
const prose = (text: string) => wrapText(text, 120).join("\n");

const code = (text: string) => `\`${text}\``;

/** Names of files, those of clips and pictures by folder and ending. */
function filesOf({ files }: Layout): string {
  const names = Object.keys(files).map((name) => name.replace(/[^/]+(\.(?:mp4|webm|png))$/, "*$1"));
  return [...new Set(names)].map(code).join(", ");
}

/** What is given besides `data_root`. */
function settingsOf({ open, options = {} }: Layout): string {
  const given = [
    ...(open === undefined ? [] : [`data_root: .../${open}`]),
    ...(options.idToken === undefined ? [] : [`id_token: "${options.idToken}"`]),
    ...(options.prompt === undefined ? [] : [`prompt: "${options.prompt}"`]),
    ...(options.allowOutside === undefined ? [] : [`allow_outside: ${options.allowOutside}`]),
    ...(options.frames === undefined ? [] : [`train_resolution: ${options.frames}xHEIGHTxWIDTH`]),
  ];
  return given.map(code).join(", ");
}

function layouts(): string {
  const rows = LAYOUTS.map((layout) => [
    layout.of,
    filesOf(layout),
    settingsOf(layout),
    code(layout.format),
    `${layout.samples.length}`,
  ]);
  return table(["Dataset of", "Files", "Settings", "Read as", "Samples"], rows);
}

function examples(): string {
  return FORMATS.map(({ name, title, example }) => `${prose(`**${name}**: ${title}`)}\n\n\`\`\`\n${example}\n\`\`\``)
    .join("\n\n");
}

function kinds(): string {
  return table(["Clip", "Encoder", "File"], KINDS.map(({ name, encoder, file }) => [name, encoder, file]));
}

/** Key by key, what the fixtures of a trainer became. */
function foreignKeys(): string {
  return TRAINERS.map(({ name, title, defaults }) => {
    const rows = new Map<string, readonly string[]>();
    for (const { given } of IMPORT_CASES.filter((each) => each.trainer === name)) {
      const { settings, left } = imported(given);
      const keyOf = (from: string) => /^((?:--)?[\w.]+)/.exec(from)![1]!;
      const here = Map.groupBy(settings, ([, { from }]) => from);
      for (const [from, set] of here) {
        if (from.startsWith("default of")) continue;
        const why = set.map(([, setting]) => setting.why?.replace("not found: correct the path", "")).find(Boolean);
        rows.set(keyOf(from), [code(keyOf(from)), set.map(([key]) => code(key)).join(", "), why ?? ""]);
      }
      for (const { from, why } of left) rows.set(keyOf(from), [code(keyOf(from)), "", why]);
    }
    const differ = Object.entries(defaults).map(([key, value]) => code(`${key}=${value}`)).join(", ");
    return [
      `### ${name}`,
      prose(`Reads ${title}. Where it says nothing, its own defaults are written: ${differ}.`),
      table(["There", "Here", "Note"], [...rows.values()]),
    ].join("\n\n");
  }).join("\n\n");
}

/** Every made part. */
export const MADE: readonly Made[] = [
  { file: "docs/datasets.md", name: "formats", text: examples },
  { file: "docs/datasets.md", name: "layouts", text: layouts },
  { file: "docs/datasets.md", name: "kinds", text: kinds },
  { file: "docs/coming_from.md", name: "keys", text: foreignKeys },
];

/** The document with its part made anew. */
export function remade({ file, name, text }: Made): { readonly path: string; readonly before: string; after: string } {
  const path = fromFileUrl(`../../${file}`, import.meta.url);
  const before = readFileSync(path, "utf8");
  const [begin, end] = [`<!-- made: ${name} -->`, `<!-- end: ${name} -->`];
  const from = before.indexOf(begin) + begin.length;
  const to = before.indexOf(end);
  if (from < begin.length || to < from) throw new Error(`${file} has no place for "${name}"`);
  return { path, before, after: `${before.slice(0, from)}\n\n${text()}\n\n${before.slice(to)}` };
}

if (import.meta.main) {
  for (const made of MADE) {
    const { path, after } = remade(made);
    writeFileSync(path, after);
  }
}
