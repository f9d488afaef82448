/** Makes the report of a run from the rows that its stages left: tables for people in Markdown, everything for programs in JSON. */
import { join } from "node:path";
import { type Figures, rounded, type Row } from "./results.ts";

/** What happened to a stage. */
export interface Outcome {
  readonly stage: string;
  readonly engine: string;
  readonly status: "ok" | "failed" | "timed out" | "skipped";
  readonly seconds: number;
  /** Why, in one sentence or as the end of what it printed. */
  readonly reason?: string;
}

/** A run so far. */
export interface Report {
  readonly small: boolean;
  readonly outcomes: readonly Outcome[];
  readonly rows: readonly Row[];
}

/** Adds which share of the measured peak of its engine a rate is; products on matrix units exceed that of f32. */
function withShare(row: Row, peaks: ReadonlyMap<string, Row>): Figures {
  const { stage, engine, name, ...figures } = row;
  const peak = peaks.get(engine);
  const unit = ["tflops", "gb_s"].find((unit) => typeof figures[unit] === "number");
  if (unit === undefined || stage === "peaks" || typeof peak?.[unit] !== "number") return { name, ...figures };
  const share = rounded(100 * (figures[unit] as number) / peak[unit]);
  return { name, ...figures, [unit === "tflops" ? "% of f32 peak" : "% of copy"]: share };
}

function cell(value: unknown): string {
  const text = value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.replaceAll("|", "\\|").replaceAll(/\s*\n\s*/g, " ");
}

function table(rows: readonly Figures[]): string[] {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const lines = rows.map((row) => `| ${columns.map((column) => cell(row[column])).join(" | ")} |`);
  return [`| ${columns.join(" | ")} |`, `|${columns.map(() => "---|").join("")}`, ...lines];
}

/** Steps of whole models: measured ones, and others from the arithmetic, of which most blocks of a model leave the least to assume. */
function wholeModels(rows: readonly Row[]): string[] {
  const steps = rows.filter(({ whole_seconds }) => typeof whole_seconds === "number");
  if (steps.length === 0) return [];
  return [
    "",
    "## Steps of whole models",
    "",
    "Seconds of a step of the blocks that were measured, times the arithmetic of the whole model over theirs.",
    "",
    ...table(steps.map(({ engine, name, mixed, seconds, tflop, whole_tflop, whole_seconds }) => {
      return { measured: name, engine, mixed, seconds, tflop, whole_tflop, whole_seconds };
    })),
  ];
}

function markdown({ small, outcomes, rows }: Report): string {
  const peaks = new Map(rows.filter(({ stage }) => stage === "peaks").map((row) => [row.engine, row]));
  const sections = outcomes.flatMap(({ stage, engine }) => {
    const found = rows.filter((row) => row.stage === stage && row.engine === engine);
    if (found.length === 0) return [];
    return ["", `## ${stage}, engine ${engine}`, "", ...table(found.map((row) => withShare(row, peaks)))];
  });
  const size = small ? "Small shapes: these figures say that it runs, not how fast." : "Shapes of the released models.";
  return [
    "# GPU report",
    "",
    size,
    "",
    "## Stages",
    "",
    ...table(outcomes.map((outcome) => ({ ...outcome }))),
    ...wholeModels(rows),
    ...sections,
    "",
  ]
    .join("\n");
}

/** Writes `report.md` and `report.json` to `folder`. */
export function writeReport(folder: string, report: Report): void {
  Deno.writeTextFileSync(join(folder, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  Deno.writeTextFileSync(join(folder, "report.md"), markdown(report));
}
