/** What the scripts of pages share: elements, numbers as people read them, and the refreshing of a page. */
import { INVISIBLE } from "../../../invisible.ts";

/**
 * Text from outside reaches the document as text alone, with every character that deceives a reader shown by its
 * number.
 */
export const COMMON_SCRIPT = String.raw`"use strict";
let data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const visible = (text) => String(text).replace(/${INVISIBLE.source}/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
const make = (parent, tag, text = "", attributes = {}) => {
  const node = document.createElement(tag);
  node.textContent = visible(text);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return parent.appendChild(node);
};
const draw = (parent, tag, attributes, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return parent.appendChild(node);
};
const number = (value) =>
  value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)
    ? Number(value.toPrecision(3)).toExponential().replace("e+", "e")
    : String(Number(value.toPrecision(4)));
const bytes = (value) => {
  const unit = Math.min(4, Math.max(0, Math.floor(Math.log2(value || 1) / 10)));
  return Number((value / 1024 ** unit).toPrecision(4)) + " " + ["bytes", "KiB", "MiB", "GiB", "TiB"][unit];
};
const duration = (seconds) => {
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 100) return Math.round(seconds) + " s";
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? minutes + " min" : Math.floor(minutes / 60) + " h " + minutes % 60 + " min";
};
const player = (parent, address) => {
  const isPicture = /(\.gif|^data:image\/gif.*)$/.test(address);
  make(parent, isPicture ? "img" : "video", "", {
    src: address,
    ...(isPicture ? { alt: "" } : { controls: "", loop: "", muted: "", playsinline: "", preload: "metadata" }),
  });
};
/* Keeps nodes whose content is as before: a video goes on playing, a focus stays. */
const shown = new Map();
const isShown = (id, content) => {
  const text = JSON.stringify(content);
  const same = shown.get(id) === text;
  shown.set(id, text);
  return same;
};`;

/**
 * Brings a page up to date with its file. A page that is served asks for itself and keeps the place of the reader; one
 * opened from disk may not ask, so it loads itself anew, unless a video plays, with slider and focus kept in the
 * session. A refresh by meta element would forget them.
 */
export const REFRESH_SCRIPT = String.raw`const isServed = location.protocol !== "file:";
const SECONDS = isServed ? 2 : 5;
const follow = $("follow");
let follows = true;
follow.onclick = () => {
  follows = !follows;
  follow.textContent = follows ? "Pause updates" : "Resume updates";
};
const ask = async () => {
  const answer = await fetch(location.href, { cache: "no-cache" });
  if (!answer.ok) throw new Error(answer.status);
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  return JSON.parse(found.getElementById("data").textContent);
};
const reload = () => {
  if ([...document.querySelectorAll("video")].some((video) => !video.paused)) return;
  try {
    sessionStorage.setItem(location.pathname, JSON.stringify({ ...keep(), focus: document.activeElement?.id }));
  } catch { /* Without storage, the page starts anew. */ }
  location.reload();
};
const kept = (() => {
  try {
    const kept = JSON.parse(sessionStorage.getItem(location.pathname) ?? "{}");
    sessionStorage.removeItem(location.pathname);
    return kept;
  } catch {
    return {};
  }
})();
const start = () => {
  show();
  if (kept.focus) $(kept.focus)?.focus({ preventScroll: true });
  const timer = setInterval(async () => {
    /* What is served may begin again: a run that is continued, another run in the folder. */
    if (!isServed && !isRunning()) return void clearInterval(timer);
    tellAge();
    if (!follows) return;
    if (!isServed) return reload();
    try {
      data = await ask();
      $("lost").hidden = true;
      show();
    } catch {
      $("lost").hidden = false;
    }
  }, SECONDS * 1000);
};`;
