/**
 * `deno task gpu [--out FOLDER] [--minutes 9] [--small] [--only STAGE,...]`: measures a GPU that nobody knows, in stages that
 * each have their own process, time limit and rows on disk, and writes a report that can be attached to an issue. A stage that
 * fails is a line of the report, never the end of the run.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Engine } from "../../lib/gpu/dialect.ts";
import { print } from "../suite.ts";
import { type Outcome, writeReport } from "./report.ts";
import { readRows } from "./results.ts";
import { type Run, runStage } from "./run_stage.ts";
import { featuresStage, type Stage, stagesFor } from "./stages.ts";

/** Engines that the features stage found an adapter with, the one with matrix units first. */
function usableEngines(results: string): Engine[] {
  const rows = readRows(results).filter(({ stage, usable }) => stage === "features" && usable === true);
  const rowOf = (engine: Engine) => rows.find(({ name }) => name === `engine ${engine}`);
  return (["deno", "dawn"] as const).filter((engine) => rowOf(engine) !== undefined)
    .sort((a, b) => Number(Boolean(rowOf(b)!.matrix_units)) - Number(Boolean(rowOf(a)!.matrix_units)));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: "gpu-report" },
      minutes: { type: "string", default: "9" },
      small: { type: "boolean", default: false },
      only: { type: "string" },
    },
  });
  const { out: folder, small, only } = values;
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new TypeError(`--minutes is ${values.minutes}: expected a number above 0`);
  const known = new Set([featuresStage, ...stagesFor(["deno"], small)].map(({ name }) => name));
  const wanted = new Set(only?.split(",") ?? known);
  const unknown = [...wanted].filter((name) => !known.has(name));
  if (unknown.length > 0) throw new TypeError(`--only has ${unknown}: expected some of ${[...known].join(", ")}`);

  mkdirSync(join(folder, "logs"), { recursive: true });
  const results = join(folder, "results.jsonl");
  Deno.writeTextFileSync(results, "");
  const run: Run = { folder, results, small, deadline: performance.now() + 60_000 * minutes };
  const outcomes: Outcome[] = [];
  const next = async (stage: Stage) => {
    const outcome = await runStage(stage, run);
    outcomes.push(outcome);
    writeReport(folder, { small, outcomes, rows: readRows(results) });
    print(`${stage.name}, engine ${stage.engine}: ${outcome.status}, ${outcome.seconds} s`);
  };
  await next(featuresStage);
  const engines = usableEngines(results);
  if (engines.length === 0) print("No engine finds an adapter: see the table of the stage features");
  else for (const stage of stagesFor(engines, small)) if (wanted.has(stage.name)) await next(stage);
  print(`Report: ${join(folder, "report.md")}`);
}

await main();
