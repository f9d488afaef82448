/** How a comparison of runs looks: a table that sorts and chooses, curves over each other, videos beside each other. */
import { PLAYER, PLAYER_SCRIPT } from "../../sample/page.ts";
import { CHART_SCRIPT } from "../../train/report/page/chart_script.ts";
import { COMMON_SCRIPT, REFRESH_SCRIPT } from "../../train/report/page/common_script.ts";

export { STYLE } from "../../train/report/page/style.ts";

/** Places that the script fills. */
export const COMPARE_BODY = `<header>
<div class="bar"><h1></h1><span id="state" class="pill" role="status"></span><button id="follow" hidden>Pause updates</button></div>
<p id="status"></p>
<p id="lost" class="lost" role="status" hidden>The dashboard has ended: what follows is its last state.</p>
</header>
<noscript><p>The comparison is drawn by the page's own script; metrics.jsonl in each run has its figures too.</p></noscript>
<main>
<section><h2>Runs and the settings they differ in</h2><div class="card scroll" tabindex="0"><table><thead></thead><tbody></tbody></table></div></section>
<section><h2>Figures</h2><p id="none" class="soft" hidden>No run has made a step yet.</p><div id="charts" class="grid"></div></section>
<section id="samples" hidden><h2>Last validation of each run</h2><div class="card">${PLAYER}<div id="pairs"></div></div></section>
</main>`;

const SCRIPT = String.raw`const isRunning = () => false;
const keep = () => ({});
const tellAge = () => {};
const hidden = new Set();
let order = { by: "heldOut", falls: false };
const colourOf = (name) => data.runs.findIndex((run) => run.name === name);

/* Runs without the value come last, whichever way it sorts. */
const sorted = () => {
  const valueOf = (run) => order.by in run ? run[order.by] : run.settings[order.by];
  const compare = (a, b) => {
    const both = [Number(a), Number(b)];
    return both.some(Number.isNaN) || a === "" || b === "" ? String(a).localeCompare(String(b), "en", { numeric: true }) : both[0] - both[1];
  };
  return data.runs.toSorted((a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return (order.falls ? -1 : 1) * compare(x, y);
  });
};

const showTable = (runs) => {
  const keys = Object.keys(data.runs[0]?.settings ?? {});
  const columns = [["name", "Run"], ["state", "State"], ["step", "Step"], ["loss", "Loss"], ["heldOut", "Lowest held-out"], ...keys.map((key) => [key, key])];
  if (isShown("table", [data.runs, order])) return;
  const focus = document.activeElement?.id;
  const head = document.querySelector("thead"), body = document.querySelector("tbody");
  head.textContent = body.textContent = "";
  const row = make(head, "tr");
  for (const [key, title] of columns) {
    const isOrder = order.by === key;
    const cell = make(row, "th", "", { scope: "col", ...(isOrder ? { "aria-sort": order.falls ? "descending" : "ascending" } : {}) });
    const button = make(cell, "button", title + (isOrder ? (order.falls ? " ↓" : " ↑") : ""), { id: "by " + key });
    button.onclick = () => {
      order = { by: key, falls: isOrder && !order.falls };
      show();
    };
  }
  for (const run of runs) {
    const row = make(body, "tr");
    const name = make(row, "td");
    const label = make(name, "label", "", { class: "c" + colourOf(run.name) % 6 });
    const box = make(label, "input", "", { type: "checkbox", "aria-label": "Show " + run.name, id: "show " + run.name });
    box.checked = !hidden.has(run.name);
    box.onchange = () => {
      if (box.checked) hidden.delete(run.name); else hidden.add(run.name);
      show();
    };
    make(label, "i", "", { class: "swatch" }).style.marginLeft = ".4rem";
    make(name, "a", run.name, { href: run.address });
    make(make(row, "td"), "span", run.state, { class: "pill " + run.state });
    make(row, "td", run.step.toLocaleString("en") + "/" + run.totalSteps.toLocaleString("en"));
    make(row, "td", run.loss === undefined ? "–" : number(run.loss));
    make(row, "td", run.heldOut === undefined ? "–" : number(run.heldOut));
    for (const key of keys) make(row, "td", run.settings[key] === "" ? "–" : run.settings[key]);
  }
  if (focus) $(focus)?.focus({ preventScroll: true });
};

const showVideos = (runs) => {
  const seen = runs.filter(({ name }) => !hidden.has(name));
  const prompts = [...new Set(data.runs.flatMap(({ samples }) => samples.map(({ prompt }) => prompt)))];
  $("samples").hidden = prompts.length === 0;
  if (isShown("pairs", seen.map(({ name, samples, heldOut }) => [name, samples, heldOut]))) return;
  $("pairs").textContent = "";
  for (const prompt of prompts) {
    const found = seen.flatMap((run) => run.samples.filter((sample) => sample.prompt === prompt).map((sample) => [run, sample]));
    if (found.length === 0) continue;
    make($("pairs"), "p", prompt, { class: "prompt" });
    const pair = make($("pairs"), "div", "", { class: "pairs" });
    for (const [run, sample] of found) {
      const figure = make(pair, "figure");
      player(figure, sample.address);
      const caption = make(figure, "figcaption");
      make(caption, "i", "", { class: "swatch c" + colourOf(run.name) % 6 });
      make(caption, "b", run.name);
      make(caption, "small", " step " + sample.step + ", seed " + run.seed + (run.heldOut === undefined ? "" : ", held-out " + number(run.heldOut)));
    }
  }
};

const show = () => {
  document.querySelector("h1").textContent = document.title = visible(data.title);
  const live = data.runs.filter(({ state }) => state === "running").length;
  $("state").textContent = live === 0 ? "no run goes on" : live + " running";
  $("state").className = live === 0 ? "pill" : "pill running";
  $("follow").hidden = !isServed;
  $("status").textContent = data.runs.length + (data.runs.length === 1 ? " run" : " runs");
  const runs = sorted();
  showTable(runs);
  $("none").hidden = data.charts.length > 0;
  for (const chart of data.charts) {
    const curves = chart.curves.map((curve) => ({ ...curve, colour: colourOf(curve.name) })).filter(({ name }) => !hidden.has(name));
    if (curves.length > 0) showChart($("charts"), { ...chart, curves });
  }
  showVideos(runs);
};
start();`;

/** What draws a comparison and keeps it up to date where it is served. */
export const COMPARE_SCRIPT: string = [COMMON_SCRIPT, CHART_SCRIPT, REFRESH_SCRIPT, SCRIPT, PLAYER_SCRIPT].join("\n");
