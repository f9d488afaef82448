/** A page of samples: one row per prompt, one column per training step. One file without external resources. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { escapeHtml } from "../html.ts";
import { writeFileAtomic } from "../io/atomic.ts";
import { addressOf, readPageData, renderHtml } from "../io/html_page.ts";

/** Name of the page in its folder. */
export const PAGE_NAME = "index.html";

/** One video on the page. */
export interface PageEntry {
  readonly prompt: string;
  readonly seed: number;
  /** Optimizer step of the weights it was sampled with; undefined for a model that is not training. */
  readonly step?: number | undefined;
  /** Video (or GIF), relative to the page, with forward slashes. */
  readonly file: string;
  /** Picture the video starts from, likewise. */
  readonly image?: string | undefined;
  /** What else distinguishes it, as "DPM, 50 steps, guidance 6". */
  readonly details: string;
}

const STYLE = `:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 1.5rem }
h1 { font-size: 1.3rem; margin: 0 0 .5rem }
table { border-collapse: separate; border-spacing: .6rem }
th { font-weight: 600; text-align: left; vertical-align: top }
thead th { position: sticky; top: 0; background: Canvas; padding: .3rem 0 }
tbody th { max-width: 16rem; font-weight: 400 }
video, td img { display: block; max-width: 24rem; width: 100%; background: #8884 }
th img { max-width: 8rem; display: block; margin-top: .4rem }
small { opacity: .7 }
button { font: inherit; margin-right: .4rem }`;

/** Buttons that play, pause and rewind all videos together, so that they can be compared. */
export const PLAYER =
  '<p id="player"><button name="play">Play all</button><button name="restart">Restart all</button><button name="pause">Pause all</button></p>';

/** What makes the buttons of {@linkcode PLAYER} work. */
export const PLAYER_SCRIPT = `for (const button of document.querySelectorAll("#player button")) {
  button.onclick = () => {
    for (const video of document.querySelectorAll("video")) {
      if (button.name === "pause") video.pause();
      else { if (button.name === "restart") video.currentTime = 0; video.play(); }
    }
  };
}`;

function cell(entry: PageEntry | undefined): string {
  if (entry === undefined) return "<td></td>";
  const source = escapeHtml(addressOf(entry.file));
  const shown = entry.file.endsWith(".gif")
    ? `<img src="${source}" alt="">`
    : `<video src="${source}" controls loop muted playsinline preload="metadata"></video>`;
  return `<td>${shown}<small><a href="${source}">${escapeHtml(entry.file)}</a><br>${
    escapeHtml(entry.details)
  }</small></td>`;
}

/** The page as HTML. Entries are kept inside it as data, so that the page alone is enough to add more. */
export function renderPage(title: string, entries: readonly PageEntry[]): string {
  const steps = [...new Set(entries.map(({ step }) => step))].sort((a, b) => (a ?? -1) - (b ?? -1));
  const rowOf = ({ prompt, seed, image }: PageEntry) => JSON.stringify([prompt, seed, image ?? ""]);
  const rows = new Map<string, PageEntry[]>();
  for (const entry of entries) rows.set(rowOf(entry), [...rows.get(rowOf(entry)) ?? [], entry]);
  const head = steps.map((step) => `<th>${step === undefined ? "Sample" : `Step ${step}`}</th>`).join("");
  const body = [...rows.values()].map((row) => {
    const { prompt, seed, image } = row[0]!;
    const picture = image === undefined ? "" : `<img src="${escapeHtml(addressOf(image))}" alt="first frame">`;
    const cells = steps.map((step) => cell(row.findLast((entry) => entry.step === step))).join("\n");
    return `<tr><th>${escapeHtml(prompt)}<br><small>seed ${seed}</small>${picture}</th>\n${cells}</tr>`;
  });
  return renderHtml({
    title,
    style: STYLE,
    body: `<h1>${escapeHtml(title)}</h1>
${PLAYER}
<table>
<thead><tr><th>Prompt</th>${head}</tr></thead>
<tbody>
${body.join("\n")}
</tbody>
</table>`,
    data: entries,
    script: PLAYER_SCRIPT,
  });
}

/** Entries of an earlier page; none when it is missing or was written by something else. */
function readEntries(path: string): PageEntry[] {
  if (!existsSync(path)) return [];
  const entries = readPageData(readFileSync(path, "utf8"));
  return Array.isArray(entries) ? entries as PageEntry[] : [];
}

/**
 * The page of a folder, rewritten atomically with every sample; samples of earlier runs stay while their files exist.
 */
export class SamplePage {
  readonly path: string;
  #entries: PageEntry[];

  constructor(folder: string, readonly title: string) {
    this.path = join(folder, PAGE_NAME);
    this.#entries = readEntries(this.path).filter(({ file }) => existsSync(join(folder, file)));
  }

  /** Adds a sample, or replaces the one of the same file. `file` and `image` are paths of files. */
  async add(entry: PageEntry): Promise<void> {
    const link = (file: string) => relative(dirname(this.path), file).split(sep).join("/");
    const added = { ...entry, file: link(entry.file) };
    if (entry.image !== undefined) Object.assign(added, { image: link(entry.image) });
    this.#entries = [...this.#entries.filter(({ file }) => file !== added.file), added];
    await writeFileAtomic(this.path, renderPage(this.title, this.#entries));
  }
}
