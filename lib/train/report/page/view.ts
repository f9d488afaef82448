/** The page of one run: its places, and the script that fills them and keeps them up to date. */
import type { HtmlPage } from "../../../io/html_page.ts";
import { PLAYER, PLAYER_SCRIPT } from "../../../sample/page.ts";
import { CHART_SCRIPT } from "./chart_script.ts";
import { COMMON_SCRIPT, REFRESH_SCRIPT } from "./common_script.ts";
import type { PageData } from "./page_data.ts";
import { STYLE } from "./style.ts";

/** Places that the script fills. */
const BODY = `<header>
<div class="bar"><h1></h1><span id="state" class="pill" role="status"></span><button id="follow" hidden>Pause updates</button></div>
<progress max="1" aria-label="Steps made"></progress>
<p id="status"></p>
<p id="lost" class="lost" role="status" hidden>The dashboard has ended: what follows is its last state. index.html in the folder of the run stays readable.</p>
<dl id="tiles" class="tiles"></dl>
</header>
<noscript><p>The figures are drawn by the page's own script; metrics.jsonl beside it has them too.</p></noscript>
<main>
<section id="samples" hidden>
<h2>Validation videos</h2>
<div class="card">
<div class="controls">
<label for="step">First step beside <output id="chosen" for="step"></output>
<input id="step" type="range" min="0" step="1"></label>
${PLAYER}
</div>
<div id="pairs" class="groups"></div>
</div>
</section>
<section><h2>Figures</h2><p id="none" class="soft" hidden>The first step is not made yet.</p><div id="charts" class="grid"></div></section>
<section id="layers" hidden><h2>LoRA norm by layer</h2><figure class="card"><div class="head"><h3>Norm of each layer's change to the model</h3><small id="norms-step"></small></div>
<div class="scroll"><svg id="norms" role="img" tabindex="0"></svg></div><p id="norm" class="soft"></p></figure></section>
<section id="memory" hidden><h2>GPU memory by phase</h2><div class="card" id="phases"></div></section>
<section id="problems" hidden><h2>Warnings and skipped steps</h2><div class="card"><ol id="notes" tabindex="0"></ol></div></section>
<section id="dataset" hidden><h2>Dataset</h2><p id="clip-count" class="soft"></p><div id="clips" class="clips"></div></section>
<section><h2>Run</h2><div class="card"><dl id="facts"></dl>
<details id="settings"><summary>Config</summary><pre tabindex="0"></pre></details></div></section>
</main>`;

const RUN_SCRIPT = String.raw`const isRunning = () => data.state === "running";
const tellAge = () => {
  const { state, step, totalSteps, secondsLeft, written } = data;
  const age = (Date.now() - written) / 1000;
  const left = isRunning() && secondsLeft !== undefined
    ? " · about " + duration(secondsLeft) + " left, until " +
      new Date(written + secondsLeft * 1000).toLocaleString(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" })
    : "";
  /* A validation of a large model takes minutes without a step. */
  const isSilent = isRunning() && age > 900 + 20 * (lastOf("Step time", "per step") ?? 0);
  const heard = isSilent
    ? "no news for " + duration(age) + ": it may have been ended"
    : "written " + (!isRunning()
      ? new Date(written).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })
      : age < 10 ? "just now" : duration(age) + " ago");
  $("status").textContent = "Step " + step.toLocaleString("en") + " of " + totalSteps.toLocaleString("en") + left + " · " + heard;
};
const lastOf = (title, name) => {
  const { curves = [] } = data.charts.find((chart) => chart.title === title) ?? {};
  return (curves.find((curve) => curve.name === name) ?? curves[0])?.points.at(-1)?.[1];
};
const showHead = () => {
  const { title, state, step, totalSteps, secondsLeft, skips, warnings } = data;
  document.querySelector("h1").textContent = visible(title);
  document.title = (isRunning() && totalSteps > 0 ? Math.floor(100 * step / totalSteps) + " % · " : "") + visible(title);
  if ($("state").textContent !== state) $("state").textContent = state;
  $("state").className = "pill " + state;
  document.querySelector("progress").value = totalSteps === 0 ? 0 : step / totalSteps;
  $("follow").hidden = !isServed && !isRunning();
  tellAge();
  const tiles = [
    ["Loss, smoothed", lastOf("Loss", "smoothed"), number],
    ["Held-out loss", lastOf("Held-out loss", "mean"), number],
    ["Time left", isRunning() ? secondsLeft : undefined, duration],
    ["Step time", lastOf("Step time", "per step"), duration],
    ["Speed", lastOf("Speed", "rank 0"), (value) => value < 1 ? (value * 1000).toPrecision(3) + " GFLOP/s" : value.toPrecision(3) + " TFLOP/s"],
    ["GPU memory", lastOf("GPU memory", "rank 0"), (value) => bytes(value * 1024 ** 3)],
    ["Skipped steps", skips.length, String],
    ["Warnings", warnings, String],
  ].filter(([, value]) => value !== undefined);
  $("tiles").textContent = "";
  for (const [name, value, text] of tiles) {
    const isBad = (name === "Skipped steps" || name === "Warnings") && value > 0;
    const tile = make($("tiles"), "div", "", { class: isBad ? "card bad" : "card" });
    make(tile, "dt", name);
    const [amount, ...unit] = text(value).split(" ");
    make(make(tile, "dd", amount), "small", " " + unit.join(" "));
  }
};

/* Videos: those of the first step beside those of the chosen one */
const slider = $("step");
let steps = [];
const choose = () => {
  const step = steps[slider.value];
  $("chosen").textContent = "step " + step;
  slider.setAttribute("aria-valuetext", "step " + step);
  if (isShown("pairs", [steps[0], step, data.samples])) return;
  $("pairs").textContent = "";
  for (const [prompt, samples] of Map.groupBy(data.samples, ({ prompt }) => prompt)) {
    const group = make($("pairs"), "div");
    make(group, "p", prompt, { class: "prompt" });
    const pair = make(group, "div", "", { class: "pairs" });
    for (const wanted of new Set([steps[0], step])) {
      for (const sample of samples.filter((sample) => sample.step === wanted)) {
        const figure = make(pair, "figure");
        player(figure, sample.address);
        const caption = make(figure, "figcaption");
        make(caption, "a", "Step " + sample.step, { href: sample.address });
        make(caption, "small", " seed " + data.seed);
      }
    }
  }
};
const showVideos = () => {
  const atEnd = steps.length === 0 || slider.value === slider.max;
  const step = kept.step ?? (atEnd ? undefined : steps[slider.value]);
  kept.step = undefined;
  steps = [...new Set(data.samples.map(({ step }) => step))].sort((a, b) => a - b);
  $("samples").hidden = steps.length === 0;
  if (steps.length === 0) return;
  slider.max = steps.length - 1;
  slider.disabled = steps.length === 1;
  slider.value = steps.includes(step) ? steps.indexOf(step) : slider.max;
  choose();
};
slider.oninput = choose;
const keep = () => ({ step: slider.value === slider.max ? undefined : steps[slider.value], open: $("settings").open });

/* Norms by layer: kinds of layers from top to bottom, blocks from left to right */
const showNorms = () => {
  $("layers").hidden = data.norms === undefined;
  if (data.norms === undefined || isShown("norms", data.norms)) return;
  const { step, layers } = data.norms;
  const cells = layers.map(([layer, norm]) => {
    const [, block, kind] = /^transformer_blocks\.(\d+)\.(.*)$/.exec(layer) ?? [, "0", layer];
    return { layer, norm, block: Number(block), kind };
  });
  const kinds = [...new Set(cells.map(({ kind }) => kind))];
  const blocks = Math.max(...cells.map(({ block }) => block)) + 1;
  const most = Math.max(...cells.map(({ norm }) => norm));
  const SIZE = Math.max(14, Math.min(40, 560 / blocks)), NAMES = 110;
  const svg = $("norms");
  svg.textContent = "";
  svg.setAttribute("viewBox", "0 0 " + (NAMES + blocks * SIZE) + " " + (kinds.length * 22 + 18));
  svg.style.width = NAMES + blocks * SIZE + "px";
  kinds.forEach((kind, row) => draw(svg, "text", { x: NAMES - 6, y: row * 22 + 15, "text-anchor": "end" }, visible(kind).replace(/^attn1\./, "")));
  for (let block = 0; block < blocks; block += Math.ceil(24 / SIZE) * (blocks > 12 ? 2 : 1)) {
    draw(svg, "text", { x: NAMES + (block + .5) * SIZE, y: kinds.length * 22 + 13, "text-anchor": "middle" }, block);
  }
  const group = draw(svg, "g", { class: "c0" });
  const nodes = cells.map(({ norm, block, kind }) =>
    draw(group, "rect", {
      class: "cell", x: NAMES + block * SIZE, y: kinds.indexOf(kind) * 22, width: SIZE, height: 22, rx: 3,
      "fill-opacity": (.06 + .94 * norm / (most || 1)).toFixed(3),
    })
  );
  $("norms-step").textContent = "step " + step.toLocaleString("en");
  let at = cells.findIndex(({ norm }) => norm === most);
  const choose = (index) => {
    nodes[at]?.classList.remove("chosen");
    at = Math.min(Math.max(index, 0), cells.length - 1);
    nodes[at].classList.add("chosen");
    group.appendChild(nodes[at]);
    const { layer, norm } = cells[at];
    $("norm").textContent = visible(layer) + ": " + number(norm) + (norm === most ? ", the largest of " + cells.length + " layers" : "");
    svg.setAttribute("aria-label", "Norms by layer; " + $("norm").textContent);
  };
  choose(at);
  nodes.forEach((node, index) => node.onpointerenter = () => choose(index));
  svg.onkeydown = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (move === undefined) return;
    const across = event.key === "ArrowLeft" || event.key === "ArrowRight";
    const next = cells.findIndex(({ block, kind }) =>
      across ? kind === cells[at].kind && block === cells[at].block + move : block === cells[at].block && kind === kinds[kinds.indexOf(cells[at].kind) + move]
    );
    if (next >= 0) choose(next);
    event.preventDefault();
  };
};

const showMemory = () => {
  const { memory } = data;
  $("memory").hidden = memory.length === 0;
  $("phases").textContent = "";
  const most = Math.max(...memory.flatMap(({ used, planned }) => [used, planned]));
  for (const { phase, used, planned } of memory) {
    const row = make($("phases"), "div", "", { class: used > planned ? "phase over" : "phase" });
    make(row, "span", phase);
    const track = make(row, "div", "", { class: "track" });
    track.style.width = Math.max(used, planned) / most * 100 + "%";
    make(track, "i").style.width = used / Math.max(used, planned) * 100 + "%";
    make(row, "span", used === planned ? bytes(used) + ", as planned" : bytes(used) + " of " + bytes(planned) + " planned", { class: "size" });
  }
};

const showDataset = () => {
  const { clips, samples } = data.dataset;
  $("dataset").hidden = clips.length === 0;
  if (isShown("clips", data.dataset)) return;
  $("clip-count").textContent = clips.length < samples ? "The first " + clips.length + " of " + samples + " samples" : samples + (samples === 1 ? " sample" : " samples");
  $("clips").textContent = "";
  for (const { name, prompt, picture } of clips) {
    const figure = make($("clips"), "figure", "", { class: "card" });
    if (picture !== undefined) make(figure, "img", "", { src: picture, alt: "", loading: "lazy" });
    make(figure, "figcaption", prompt, { tabindex: 0 });
    make(figure, "small", name);
  }
};

const showRest = () => {
  $("problems").hidden = data.notes.length === 0;
  if (!isShown("notes", data.notes)) {
    $("notes").textContent = "";
    for (const note of data.notes) make($("notes"), "li", note);
  }
  $("facts").textContent = "";
  for (const [name, value] of data.facts) {
    make($("facts"), "dt", name);
    make($("facts"), "dd", value);
  }
  if (!isShown("config", data.config)) document.querySelector("pre").textContent = visible(data.config);
};
const show = () => {
  showHead();
  showVideos();
  $("none").hidden = data.charts.length > 0;
  for (const chart of data.charts) showChart($("charts"), chart.title === "Loss" ? { ...chart, skips: data.skips } : chart);
  showNorms();
  showMemory();
  showDataset();
  showRest();
};
$("settings").open = kept.open === true;
start();`;

/** The page of a run. */
export function runPage(data: PageData): HtmlPage {
  const script = [COMMON_SCRIPT, CHART_SCRIPT, REFRESH_SCRIPT, RUN_SCRIPT, PLAYER_SCRIPT].join("\n");
  return { title: data.title, style: STYLE, body: BODY, data, script };
}
