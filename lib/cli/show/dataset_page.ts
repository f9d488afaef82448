/** A page of the clips of a dataset as training sees them, with their captions. One file without external resources. */
import { Buffer } from "node:buffer";
import type { ClipReport, DatasetReport } from "../../data/samples/dataset_check.ts";
import { escapeHtml } from "../../html.ts";

const STYLE = `:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 1rem auto; max-width: 70rem; padding: 0 1rem }
h1 { font-size: 1.3rem }
pre { white-space: pre-wrap }
article { border-top: 1px solid #8886; padding: .6rem 0 }
img { display: block; max-width: 100%; min-height: 4rem; background: #8884 }
h2 { font-size: 1rem; margin: .3rem 0; overflow-wrap: anywhere }
p { margin: .2rem 0; overflow-wrap: anywhere }
.note { color: #b60 }
.problem { color: #c33 }`;

function clipArticle(clip: ClipReport): string {
  const { name, prompt, tokens, width, height, fps, duration, used, cropped, codec, sheet, notes } = clip;
  const source = sheet === undefined ? "" : `data:image/jpeg;base64,${Buffer.from(sheet).toString("base64")}`;
  const facts = [
    `${width}x${height}, ${codec}, ${fps.toFixed(2)} fps`,
    `${used.toFixed(2)} of ${duration.toFixed(2)} s used`,
    ...(cropped > 0.005 ? [`${Math.round(100 * cropped)} % of the picture cut away`] : []),
    `${tokens} tokens`,
  ].map(escapeHtml).join(", ");
  return `<article>
<img src="${source}" alt="frames of ${escapeHtml(name)}" loading="lazy">
<h2>${escapeHtml(name)}</h2>
<p>${escapeHtml(prompt)}</p>
<p><small>${facts}</small></p>
${notes.map((note) => `<p class="note">${escapeHtml(note)}</p>`).join("\n")}
</article>`;
}

/** The page as HTML; `lines` sum up the dataset. */
export function datasetPage(root: string, lines: readonly string[], report: DatasetReport): string {
  const { problems, warnings, statistics: { clips } } = report;
  const list = (kind: string, texts: readonly string[]) =>
    texts.map((text) => `<p class="${kind}">${kind}: ${escapeHtml(text)}</p>`).join("\n");
  const shown = new Set(clips.flatMap(({ name, notes }) => notes.map((note) => `${name}: ${note}`)));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(root)}</title>
<style>
${STYLE}
</style>
</head>
<body>
<h1>${escapeHtml(root)}</h1>
<pre>${escapeHtml(lines.join("\n"))}</pre>
${list("problem", problems)}
${list("note", warnings.filter((warning) => !shown.has(warning)))}
${clips.map(clipArticle).join("\n")}
</body>
</html>
`;
}
