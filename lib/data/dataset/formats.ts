/** The dataset formats, in the order in which they are tried. A format is added by its file and its name here. */
import { captions } from "./captions.ts";
import { cogkit } from "./cogkit.ts";
import { collection } from "./collection.ts";
import type { DatasetFormat } from "./format.ts";
import { lists } from "./lists.ts";
import { table } from "./table.ts";

/** Every format; `captions`, which takes any folder with clips, comes last. */
export const FORMATS = [collection, lists, cogkit, table, captions] as const satisfies readonly DatasetFormat[];
