/**
 * A page that is one HTML file: text from outside stays data, and the browser is told to fetch nothing but the media
 * beside it, and to run nothing but the script that was written with it.
 */
import { createHash } from "node:crypto";
import { escapeHtml } from "../html.ts";

/** The parts of a page. */
export interface HtmlPage {
  /** Plain text. */
  readonly title: string;
  readonly style: string;
  /** HTML; text from outside went through {@linkcode escapeHtml}. */
  readonly body: string;
  /** What the script shows: JSON, read back by {@linkcode readPageData}. */
  readonly data: unknown;
  readonly script: string;
}

/** Address of a file beside the page or below it, from its path with forward slashes. */
export function addressOf(file: string): string {
  return file.split("/").map(encodeURIComponent).join("/");
}

/** The source expression that lets an inline element run (Content Security Policy Level 3, section 2.3.1). */
function hashOf(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** What the browser may fetch and run for a page, as the value of Content-Security-Policy. */
export function contentPolicy({ style, script }: Pick<HtmlPage, "style" | "script">): string {
  // 'self' of a page opened from disk is no origin that a file could match, hence file:. Small pictures and videos of a
  // page that is sent around are inside it, hence data:.
  const media = "'self' file: data:";
  return [
    "default-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    // A page that is served asks for itself anew.
    "connect-src 'self'",
    `style-src ${hashOf(style)}`,
    `script-src ${hashOf(script)}`,
    `img-src ${media}`,
    `media-src ${media}`,
  ].join("; ");
}

/** The page as HTML. */
export function renderHtml({ title, style, body, data, script }: HtmlPage): string {
  // "<" could end the script element early, and its escape means the same in JSON.
  const json = JSON.stringify(data).replaceAll("<", "\\u003c");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${contentPolicy({ style, script })}">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
${body}
<script type="application/json" id="data">${json}</script>
<script>${script}</script>
</body>
</html>
`;
}

/** The data of a page that {@linkcode renderHtml} made; undefined for every other text. */
export function readPageData(html: string): unknown {
  const json = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(html)?.[1];
  try {
    return JSON.parse(json ?? "");
  } catch {
    return undefined;
  }
}
