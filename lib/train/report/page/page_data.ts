/** What a page of a run holds as data, and the reading of it from a page on disk, which may be of anybody's making. */
import { z } from "zod";
import { readPageData } from "../../../io/html_page.ts";
import type { PageClip } from "../clip_sheets.ts";
import type { PageFigures } from "./figures.ts";

/** What a page shows of its dataset. */
export interface PageDataset {
  readonly clips: readonly PageClip[];
  /** How many samples there are. */
  readonly samples: number;
}

/** What the script of a page reads. */
export interface PageData extends Omit<PageFigures, "state"> {
  readonly title: string;
  /** `stopped`: ended by an error. */
  readonly state: PageFigures["state"] | "stopped";
  /** Milliseconds since 1970. */
  readonly written: number;
  /** Of the noise of all samples. */
  readonly seed: number;
  /** YAML. */
  readonly config: string;
  readonly dataset: PageDataset;
}

/** An address below the page: no scheme, no root, no way up. */
const address = z.string().regex(/^(?!.*(?:^|\/)(?:\.|%2e))[^/:\\?#]+(?:\/[^/:\\?#]+)*$/is);

const points = z.array(z.tuple([z.number(), z.number()]));

const schema = z.object({
  title: z.string(),
  state: z.enum(["running", "finished", "interrupted", "stopped"]),
  written: z.number(),
  step: z.number(),
  totalSteps: z.number(),
  secondsLeft: z.number().exactOptional(),
  seed: z.number(),
  config: z.string(),
  facts: z.array(z.tuple([z.string(), z.string()])),
  charts: z.array(z.object({
    title: z.string(),
    unit: z.string(),
    fromZero: z.boolean(),
    curves: z.array(z.object({ name: z.string(), points })),
  })),
  norms: z.object({ step: z.number(), layers: z.array(z.tuple([z.string(), z.number()])) }).exactOptional(),
  memory: z.array(z.object({ phase: z.string(), used: z.number(), planned: z.number() })),
  skips: z.array(z.number()),
  warnings: z.number(),
  notes: z.array(z.string()),
  samples: z.array(z.object({ step: z.number(), prompt: z.string(), address })),
  dataset: z.object({
    samples: z.number(),
    clips: z.array(z.object({
      name: z.string(),
      prompt: z.string(),
      picture: z.string().startsWith("data:image/jpeg;base64,").exactOptional(),
    })),
  }),
});

/** The data of a page of a run; undefined for every other text. */
export function readRunPage(html: string): PageData | undefined {
  return schema.safeParse(readPageData(html)).data;
}
