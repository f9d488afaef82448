/** What every dataset format brings: how it is recognised, how it is read, and how it looks. */
import type { RawPath } from "./paths.ts";

/** Options of {@linkcode readDataset}. */
export interface DatasetOptions {
  /** List of captions ("prompts.txt"), or the column of captions in a table. */
  readonly captionColumn?: string;
  /** List of clips ("videos.txt"), or the column of clips in a table. */
  readonly videoColumn?: string;
  /** List or column of pictures; without it the usual names are tried. Only read if `images` is set. */
  readonly imageColumn?: string | undefined;
  /** Whether samples have condition pictures, as image-to-video needs (false). */
  readonly images?: boolean;
  /** Put literally in front of every prompt, without a separator (""). */
  readonly idToken?: string | undefined;
  /** Prompt of clips that have none of their own. */
  readonly prompt?: string | undefined;
  /** Frames per sample; pictures that a folder holds beside its clips count only where it is 1 (1). */
  readonly frames?: number;
  /** Accept clips outside the dataset folder (false). */
  readonly allowOutside?: boolean;
  /** Name of the format ("auto": the first that recognises the folder). */
  readonly format?: string;
}

/** A dataset before its format is known. */
export interface DatasetSource {
  /** Absolute path of the folder. */
  readonly root: string;
  /** Absolute path of the file that was named in place of a folder. */
  readonly file?: string | undefined;
  readonly options: DatasetOptions;
}

/** A caption, its clip and its picture before paths are resolved. */
export interface RawSample {
  /** Undefined when the dataset has none for this clip. */
  readonly prompt: string | undefined;
  readonly video?: RawPath | undefined;
  readonly image?: RawPath | undefined;
  /** Times it comes in an epoch (1). */
  readonly repeats?: number;
}

/** Receives what a reader finds. */
export interface Findings {
  /** What stops training. */
  readonly problems: string[];
  /** What deserves a look. */
  readonly warnings: string[];
  /** Reads another dataset, for formats that name several; its problems and warnings go to `own`. */
  read(source: DatasetSource, own: Pick<Findings, "problems" | "warnings">): Promise<readonly RawSample[]>;
}

/** One way to lay out a dataset. */
export interface DatasetFormat {
  /** What `dataset_format` calls it. */
  readonly name: string;
  /** Who lays datasets out like this. */
  readonly title: string;
  /** Files and lines of a small one. */
  readonly example: string;
  /** What shows that a source is of this format, such as "prompts.txt"; undefined if nothing does. */
  detect(source: DatasetSource): Promise<string | undefined>;
  /** All samples in order. */
  read(source: DatasetSource, findings: Findings): Promise<readonly RawSample[]>;
}
