/** Runs in a folder, as their pages tell of them: nothing else is read, so a run may be going on in another process. */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join, sep } from "node:path";
import { PAGE_NAME } from "../../sample/page.ts";
import { type PageData, readRunPage } from "../../train/report/page/page_data.ts";

/** A run on disk. */
export interface FoundRun {
  /** Name of its folder below the one that was looked through; empty for that folder itself. */
  readonly name: string;
  readonly page: PageData;
}

/** The real path of what `path` names, when that lies in `root`, links followed; undefined else. */
export function pathInside(root: string, path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const [real, top] = [realpathSync(path), realpathSync(root)];
  return real === top || real.startsWith(top.endsWith(sep) ? top : top + sep) ? real : undefined;
}

/** Finds the runs of a folder, and reads each page again only when it was rewritten. */
export class RunFolder {
  readonly #read = new Map<string, { readonly time: number; readonly page: PageData | undefined }>();

  constructor(readonly root: string) {}

  /** The folder's own run when it is one, else those of the folders in it, by name. */
  runs(): FoundRun[] {
    if (!existsSync(this.root)) return [];
    const own = this.#page("");
    if (own !== undefined) return [{ name: "", page: own }];
    return readdirSync(this.root).filter((name) => !name.startsWith(".")).sort().flatMap((name) => {
      const page = this.#page(name);
      return page === undefined ? [] : { name, page };
    });
  }

  #page(name: string): PageData | undefined {
    const path = pathInside(this.root, join(this.root, name, PAGE_NAME));
    if (path === undefined) return undefined;
    const { mtimeMs: time } = statSync(path);
    let known = this.#read.get(name);
    if (known?.time !== time) this.#read.set(name, known = { time, page: readRunPage(readFileSync(path, "utf8")) });
    return known.page;
  }
}
