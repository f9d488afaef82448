/** Runs side by side: what their configs differ in, where their curves lie, what they make of the same prompts. */
import { Buffer } from "node:buffer";
import { readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { parse } from "yaml";
import { addressOf, type HtmlPage } from "../../io/html_page.ts";
import type { Chart, PageSample } from "../../train/report/page/figures.ts";
import type { PageData } from "../../train/report/page/page_data.ts";
import { COMPARE_BODY, COMPARE_SCRIPT, STYLE } from "./compare_view.ts";
import { mediaType } from "./media.ts";
import { type FoundRun, pathInside } from "./runs.ts";

/** A run in the table. */
export interface ComparedRun extends Pick<PageData, "state" | "step" | "totalSteps" | "seed"> {
  readonly name: string;
  /** Of its page. */
  readonly address: string;
  /** Smoothed, at the last step. */
  readonly loss?: number;
  /** The lowest. */
  readonly heldOut?: number;
  /** Settings in which not all runs agree; empty text for one that is not set. */
  readonly settings: Readonly<Record<string, string>>;
  /** Of the last validation. */
  readonly samples: readonly PageSample[];
}

/** What the page of a comparison shows. */
export interface Comparison {
  readonly title: string;
  readonly runs: readonly ComparedRun[];
  /** A curve per run, named by it. */
  readonly charts: readonly Chart[];
}

/** Charts that are laid over each other, and the curve of each that is taken. */
const CURVES: Readonly<Record<string, string>> = {
  "Loss": "smoothed",
  "Held-out loss": "mean",
  "Gradient norm": "before clipping",
  "LoRA norm": "mean of layers",
  "Learning rate": "learning rate",
  "Step time": "per step",
};

/** Keys that differ between all runs and say nothing. */
const OWN_KEYS = ["output_dir", "resume_from_checkpoint"];

function settingsOf({ config }: PageData): Map<string, string> {
  const text = (value: unknown) => Array.isArray(value) ? value.join(" ") : String(value);
  let values: unknown;
  try {
    values = parse(config);
  } catch {
    // A page of another hand: what it calls its config is no YAML.
  }
  const entries = Object.entries(Object(values)).filter(([key]) => !OWN_KEYS.includes(key));
  return new Map(entries.map(([key, value]) => [key, text(value)]));
}

/** The settings of each run in which not all agree. */
function differences(runs: readonly FoundRun[]): Record<string, string>[] {
  const all = runs.map(({ page }) => settingsOf(page));
  const keys = [...new Set(all.flatMap((settings) => [...settings.keys()]))]
    .filter((key) => new Set(all.map((settings) => settings.get(key))).size > 1);
  return all.map((settings) => Object.fromEntries(keys.map((key) => [key, settings.get(key) ?? ""])));
}

/** Points of the curve of a chart that comparisons show. */
function pointsOf({ charts }: PageData, title: string): Chart["curves"][number]["points"] | undefined {
  return charts.find((chart) => chart.title === title)?.curves.find(({ name }) => name === CURVES[title])?.points;
}

/** Compares the runs of a folder; addresses are relative to it, with "/" behind those of pages. */
export function compareRuns(root: string, runs: readonly FoundRun[]): Comparison {
  const title = basename(resolve(root));
  const settings = differences(runs);
  const nameOf = ({ name }: FoundRun) => name === "" ? title : name;
  const compared = runs.map((run, i): ComparedRun => {
    const { name, page } = run;
    const { state, step, totalSteps, seed, samples } = page;
    const prefix = name === "" ? "" : `${addressOf(name)}/`;
    const loss = pointsOf(page, "Loss")?.at(-1)?.[1];
    const heldOut = pointsOf(page, "Held-out loss")?.map(([, value]) => value);
    const last = Math.max(...samples.map(({ step }) => step));
    return {
      name: nameOf(run),
      address: prefix === "" ? "./" : prefix,
      ...{ state, step, totalSteps, seed },
      ...(loss === undefined ? {} : { loss }),
      ...(heldOut === undefined ? {} : { heldOut: Math.min(...heldOut) }),
      settings: settings[i]!,
      samples: samples.filter(({ step }) => step === last)
        .map((sample) => ({ ...sample, address: prefix + sample.address })),
    };
  });
  const charts = Object.keys(CURVES).flatMap((title): Chart[] => {
    const curves = runs.flatMap((run) => {
      const points = pointsOf(run.page, title);
      return points === undefined ? [] : { name: nameOf(run), points };
    });
    const look = runs.flatMap(({ page }) => page.charts).find((chart) => chart.title === title);
    return curves.length === 0 ? [] : [{ title, unit: look!.unit, fromZero: look!.fromZero, curves }];
  });
  return { title, runs: compared, charts };
}

/** Most bytes of videos that are put into a page: a browser opens one of twice the size without a pause. */
const MOST_EMBEDDED = 48 * 2 ** 20;

/**
 * The comparison for a page at `path`: with its videos inside it where they are few enough to be sent around, else with
 * their places relative to it.
 */
export function movedTo(path: string, root: string, comparison: Comparison): Comparison {
  const way = relative(dirname(resolve(path)), resolve(root)).split(sep).filter((name) => name !== "")
    .map((name) => name === ".." ? name : addressOf(name)).join("/");
  const fileOf = ({ address }: PageSample) => {
    const names = address.split("/").map(decodeURIComponent);
    return pathInside(root, join(root, ...names));
  };
  const linked = (address: string) => way === "" ? address : `${way}/${address}`;
  const files = comparison.runs.flatMap(({ samples }) => samples.flatMap((sample) => fileOf(sample) ?? []));
  const embeds = files.reduce((sum, file) => sum + statSync(file).size, 0) <= MOST_EMBEDDED;
  const moved = (sample: PageSample): PageSample => {
    const [file, type] = [fileOf(sample), mediaType(sample.address)];
    if (!embeds || file === undefined || type === undefined) return { ...sample, address: linked(sample.address) };
    return { ...sample, address: `data:${type};base64,${Buffer.from(readFileSync(file)).toString("base64")}` };
  };
  const runs = comparison.runs.map((run) => ({
    ...run,
    address: `${linked(run.address)}index.html`,
    samples: run.samples.map(moved),
  }));
  return { ...comparison, runs };
}

/** The page of a comparison. */
export function comparePage(data: Comparison): HtmlPage {
  return { title: data.title, style: STYLE, body: COMPARE_BODY, data, script: COMPARE_SCRIPT };
}
