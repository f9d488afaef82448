/**
 * How the page of a run looks. Its charts are drawn as SVG by 4 KB of the script below; uPlot 1.6.32 and its style
 * would add 53 KB to every writing of the page.
 */
import { PLAYER } from "../../../sample/page.ts";

/** Colours of curves have a contrast of at least 3 on either background (WCAG 2.2, 1.4.11). */
export const STYLE = `:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; --line: #8886 }
body { margin: 0 auto; padding: 1rem; max-width: 90rem }
h1 { font-size: 1.3rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem }
h3 { font-size: 1rem; margin: 0 0 .3rem }
progress { width: 100%; accent-color: #2a78d0 }
button, input { font: inherit }
button { margin-right: .4rem; min-height: 2.2rem }
:focus-visible { outline: 3px solid #2a78d0; outline-offset: 2px }
#charts, #facts, .pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)) }
#facts { gap: .2rem 1rem; margin: .8rem 0 0 }
#facts div { display: flex; gap: .5rem; justify-content: space-between; border-bottom: 1px solid var(--line) }
dt { opacity: .75 }
dd { margin: 0; text-align: right; overflow-wrap: anywhere }
figure { margin: 0; min-width: 0 }
.pair { grid-template-columns: repeat(auto-fill, minmax(240px, 24rem)); margin-bottom: 1rem }
.pair video, .pair img { display: block; width: 100%; background: #8884 }
.prompt { margin: 0 0 .3rem; overflow-wrap: anywhere }
#step { width: 100%; max-width: 40rem; min-height: 2.2rem; display: block }
svg { width: 100%; display: block; touch-action: pan-y }
svg text { font-size: 11px; fill: CanvasText; opacity: .75 }
.grid { stroke: var(--line); vector-effect: non-scaling-stroke }
.curve { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; vector-effect: non-scaling-stroke }
.dot { fill: currentColor }
.faint .curve { opacity: .45; stroke-width: 1 }
.legend { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; font-variant-numeric: tabular-nums }
.legend i { display: inline-block; width: 1em; height: .25em; margin-right: .4em; vertical-align: middle; background: currentColor }
.legend b { font-weight: 400; color: CanvasText }
.c0 { color: light-dark(#1c66b8, #6cb0f5) }
.c1 { color: light-dark(#b84300, #ff9a57) }
.c2 { color: light-dark(#1b7a3d, #5cc983) }
.c3 { color: light-dark(#8a3fa0, #d593ea) }
.c4 { color: light-dark(#8a6400, #dcb43c) }
.c5 { color: light-dark(#b3235a, #ff85ae) }
#notes li { overflow-wrap: anywhere }
pre { overflow: auto; border: 1px solid var(--line); padding: .6rem }`;

/** Places that the script fills. */
export const BODY = `<header>
<h1></h1>
<p id="status" role="status"></p>
<progress max="1" aria-label="Steps made"></progress>
<button id="follow" hidden>Pause updates</button>
<dl id="facts"></dl>
</header>
<noscript><p>The figures are drawn by the page's own script; metrics.jsonl beside it has them too.</p></noscript>
<main>
<section id="samples" hidden>
<h2>Validation videos</h2>
<label for="step">Compared with <output id="chosen" for="step"></output></label>
<input id="step" type="range" min="0" step="1">
${PLAYER}
<div id="pairs"></div>
</section>
<section><h2>Figures</h2><div id="charts"></div></section>
<section id="problems" hidden><h2>Warnings and skipped steps</h2><ol id="notes"></ol></section>
<details id="settings"><summary>Config</summary><pre tabindex="0"></pre></details>
</main>
<svg hidden></svg>`;

/**
 * Text from outside reaches the document as `textContent` alone. While a run goes on, the page loads itself anew,
 * unless a video plays; a refresh by meta element would forget the slider, the focus and the place on the page.
 */
export const SCRIPT = `"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const make = (parent, tag, text = "", attributes = {}) => {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return parent.appendChild(node);
};
const vector = document.querySelector("svg").namespaceURI;
const draw = (parent, tag, attributes, text = "") => {
  const node = document.createElementNS(vector, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return parent.appendChild(node);
};
const number = (value) =>
  value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
const duration = (seconds) => {
  const minutes = Math.round(seconds / 60);
  if (seconds < 100) return Math.round(seconds) + " s";
  return minutes < 100 ? minutes + " min" : Math.floor(minutes / 60) + " h " + minutes % 60 + " min";
};

/* Head */
document.querySelector("h1").textContent = data.title;
const running = data.state === "running";
const tellStatus = () => {
  const age = (Date.now() - data.written) / 1000;
  const left = running && data.secondsLeft !== undefined ? ", about " + duration(data.secondsLeft) + " left" : "";
  $("status").textContent = data.state + ": step " + data.step + " of " + data.totalSteps + left + "; written " +
    new Date(data.written).toLocaleString() + (running && age > 60 ? ", " + duration(age) + " ago" : "");
};
tellStatus();
document.querySelector("progress").value = data.totalSteps === 0 ? 0 : data.step / data.totalSteps;
for (const [name, value] of data.facts) {
  const row = make($("facts"), "div");
  make(row, "dt", name);
  make(row, "dd", value);
}

/* Charts */
const W = 360, H = 190, LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 20;
const ticksOf = (low, high) => {
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  return ticks;
};
const rangeOf = (values) => {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const space = high > low ? (high - low) * .05 : Math.abs(high) * .1 || 1;
  return [low - space, high + space];
};
for (const { title, unit, curves } of data.charts) {
  const figure = make($("charts"), "figure");
  make(figure, "h3", unit === "" ? title : title + " (" + unit + ")");
  const points = curves.flatMap((curve) => curve.points);
  const first = Math.min(...points.map(([step]) => step)), last = Math.max(...points.map(([step]) => step), first + 1);
  const [low, high] = rangeOf(points.map(([, value]) => value));
  const x = (step) => LEFT + (step - first) / (last - first) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (high - value) / (high - low) * (H - TOP - BOTTOM);
  const svg = draw(figure, "svg", { viewBox: "0 0 " + W + " " + H, tabindex: 0, role: "img" });
  for (const tick of ticksOf(low, high)) {
    draw(svg, "line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(tick), y2: y(tick) });
    draw(svg, "text", { x: LEFT - 4, y: y(tick) + 4, "text-anchor": "end" }, number(tick));
  }
  for (const tick of ticksOf(first, last).filter(Number.isInteger)) {
    draw(svg, "text", { x: x(tick), y: H - 4, "text-anchor": tick > first + (last - first) * .9 ? "end" : "middle" }, String(tick));
  }
  const legend = make(figure, "ul", "", { class: "legend" });
  const shown = curves.map(({ name, points }, i) => {
    const group = draw(svg, "g", { class: "c" + i % 6 + (name === "each step" ? " faint" : "") });
    draw(group, "polyline", { class: "curve", points: points.map(([step, value]) => x(step).toFixed(1) + "," + y(value).toFixed(1)).join(" ") });
    const dot = draw(group, "circle", { class: "dot", r: 3 });
    const item = make(legend, "li", "", { class: "c" + i % 6 });
    make(item, "i");
    const label = make(item, "b");
    return { name, points, dot, label };
  });
  const cursor = draw(svg, "line", { class: "grid", y1: TOP, y2: H - BOTTOM });
  let at = last;
  const point = (step) => {
    at = Math.min(Math.max(step, first), last);
    const texts = shown.map(({ name, points, dot, label }) => {
      const [step, value] = points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best);
      dot.setAttribute("cx", x(step));
      dot.setAttribute("cy", y(value));
      label.textContent = name + ": " + number(value) + " at " + step;
      return label.textContent;
    });
    cursor.setAttribute("x1", x(at));
    cursor.setAttribute("x2", x(at));
    svg.setAttribute("aria-label", title + ": " + texts.join(", "));
  };
  point(last);
  svg.onpointermove = (event) => {
    const box = svg.getBoundingClientRect();
    point(Math.round(first + ((event.clientX - box.left) / box.width * W - LEFT) / (W - LEFT - RIGHT) * (last - first)));
  };
  svg.onpointerleave = () => point(last);
  svg.onkeydown = (event) => {
    const stride = Math.max(1, Math.round((last - first) / 50));
    const target = { ArrowLeft: at - stride, ArrowRight: at + stride, Home: first, End: last }[event.key];
    if (target === undefined) return;
    point(target);
    event.preventDefault();
  };
}

/* Videos: those of the first step beside those of the chosen one */
const steps = [...new Set(data.samples.map(({ step }) => step))].sort((a, b) => a - b);
const slider = $("step");
const show = (parent, sample) => {
  const figure = make(parent, "figure");
  const isPicture = sample.address.endsWith(".gif");
  make(figure, isPicture ? "img" : "video", "", {
    src: sample.address,
    ...(isPicture ? { alt: "" } : { controls: "", loop: "", muted: "", playsinline: "", preload: "metadata" }),
  });
  make(make(figure, "figcaption"), "a", "Step " + sample.step, { href: sample.address });
};
const choose = () => {
  const step = steps[slider.value];
  $("chosen").textContent = "step " + step;
  slider.setAttribute("aria-valuetext", "step " + step);
  $("pairs").textContent = "";
  for (const [prompt, samples] of Map.groupBy(data.samples, ({ prompt }) => prompt)) {
    make($("pairs"), "p", prompt, { class: "prompt" });
    make($("pairs").lastChild, "small", " (seed " + data.seed + ")");
    const pair = make($("pairs"), "div", "", { class: "pair" });
    for (const wanted of new Set([steps[0], step])) samples.filter((sample) => sample.step === wanted).forEach((sample) => show(pair, sample));
  }
};
$("samples").hidden = steps.length === 0;
slider.max = steps.length - 1;
slider.value = slider.max;
slider.oninput = choose;

$("problems").hidden = data.notes.length === 0;
for (const note of data.notes) make($("notes"), "li", note);
document.querySelector("pre").textContent = data.config;

/* Refreshing */
const follow = $("follow");
follow.hidden = !running;
let follows = true;
follow.onclick = () => {
  follows = !follows;
  follow.textContent = follows ? "Pause updates" : "Resume updates";
};
try {
  const kept = JSON.parse(sessionStorage.getItem(location.pathname) ?? "{}");
  if (kept.step !== undefined) slider.value = steps.indexOf(kept.step);
  $("settings").open = kept.open === true;
  if (kept.focus) $(kept.focus)?.focus({ preventScroll: true });
  sessionStorage.removeItem(location.pathname);
} catch { /* Without storage, the page starts anew. */ }
if (steps.length > 0) choose();
if (running) {
  setInterval(() => {
    tellStatus();
    const plays = [...document.querySelectorAll("video")].some((video) => !video.paused);
    if (plays || !follows) return;
    try {
      const step = slider.value === slider.max ? undefined : steps[slider.value];
      const kept = { step, open: $("settings").open, focus: document.activeElement?.id };
      sessionStorage.setItem(location.pathname, JSON.stringify(kept));
    } catch { /* As above. */ }
    location.reload();
  }, 5000);
}`;
