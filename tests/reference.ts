/**
 * The reference set: what PyTorch, diffusers, transformers and peft computed. `golden/` is one; `COGTUNE_REFERENCE=FOLDER` names
 * another of the same layout (`golden/README.md`). Tests take cases, shapes and settings from its index.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fromFileUrl } from "./paths.ts";

const golden = fromFileUrl("./golden", import.meta.url);

/** Folder of the reference set. */
export const referenceFolder: string = resolve(Deno.env.get("COGTUNE_REFERENCE") ?? golden);

/** How far the library's own f32 is from its float64. */
interface Noise {
  readonly rel_l2: number | null;
}

/** One entry of the index. */
export interface ReferenceCase {
  readonly group: string;
  /** Path below the set's folder. */
  readonly file: string;
  /** How the case was made; empty for tables of text. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Names of the stored tensors; empty for other files. */
  readonly tensors: readonly string[];
  readonly noise_f32_vs_f64?: Readonly<Record<string, Noise>>;
  readonly update_noise?: { readonly rel_l2_of_update: number };
}

/** Every case, by file. */
export const referenceCases: ReadonlyMap<string, ReferenceCase> = readIndex(join(referenceFolder, "index.json"));

function readIndex(path: string): Map<string, ReferenceCase> {
  if (!existsSync(path)) throw new Error(`COGTUNE_REFERENCE names no reference set: there is no ${path}`);
  const { cases } = JSON.parse(readFileSync(path, "utf8")) as {
    cases: (Omit<ReferenceCase, "tensors" | "config"> & { config?: ReferenceCase["config"]; tensors?: unknown })[];
  };
  return new Map(cases.map((entry) => {
    const { config = {}, tensors } = entry;
    return [entry.file, { ...entry, config, tensors: typeof tensors === "object" ? Object.keys(tensors!) : [] }];
  }));
}

/** Cases of a group that hold a tensor, or all of the group. */
export function casesOf(group: string, tensor?: string): ReferenceCase[] {
  return [...referenceCases.values()].filter((entry) =>
    entry.group === group && (tensor === undefined || entry.tensors.includes(tensor))
  );
}

/** Path of a file of the set. */
export function referencePath(file: string): string {
  return join(referenceFolder, file);
}

/** What a case is called: its file without folder and ending. */
export function caseName({ file }: ReferenceCase): string {
  return file.replace(/^.*\//, "").replace(/\.safetensors$/, "");
}

/** Folder of the pipeline that a case was computed with. */
export function pipelineOf({ config }: Pick<ReferenceCase, "config">): string {
  return referencePath(`pipelines/${config.pipeline}`);
}

/** Folder of the set's pipeline for a kind of model: `2b`, `5b`, `5b-i2v`, `1.5-5b` or `1.5-5b-i2v`. */
export function pipelineFor(variant: string): string {
  const names = casesOf("pipelines").map(({ file }) => file.split("/")[1]!);
  // The name of a set comes first, as in `small-5b`.
  const prefix = names.find((name) => name.endsWith("2b"))!.slice(0, -"2b".length);
  return referencePath(`pipelines/${prefix}${variant}`);
}

/** Clips in the layout of the original trainer, with pictures: the set's own, or those beside it, or those of `golden/`. */
export const clipsFolder: string = [...["data/clips", "../data/clips"].map(referencePath), join(golden, "data/clips")]
  .find(existsSync)!;
