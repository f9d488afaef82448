/**
 * Charts of pages, drawn as SVG by 5 KB of script; uPlot 1.6.32 and its style would add 53 KB to every writing of a
 * page.
 */

/** `showChart(parent, chart)` draws a chart, or brings the one of its title up to date. */
export const CHART_SCRIPT = String.raw`const W = 360, H = 200, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 22;
/* Units in which small amounts are read. */
const FINER = { "GiB": ["MiB", 1024], "TFLOP/s": ["GFLOP/s", 1000], "s": ["ms", 1000] };
const ticksOf = (low, high, most) => {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * .999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  const top = Math.max(Math.abs(low), Math.abs(high));
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const text = (tick) =>
    Math.abs(tick) < step / 2 ? "0" : top < 1e-2 || top >= 1e5 ? Number(tick.toPrecision(6)).toExponential().replace("e+", "e") : tick.toFixed(digits);
  return ticks.map((tick) => [tick, text(tick)]);
};
const rangeOf = (values, fromZero) => {
  let low = fromZero ? 0 : Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const space = high > low ? (high - low) * .06 : Math.abs(high) * .1 || 1;
  return [fromZero && low === 0 ? 0 : low - space, high + space];
};
const nearest = (points, step) => {
  let low = 0, high = points.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= step) low = middle; else high = middle;
  }
  return step - points[low][0] <= points[high][0] - step ? points[low] : points[high];
};
const places = new Map();
const placeOf = (parent, title) => {
  const known = places.get(title);
  if (known !== undefined) return known;
  const figure = make(parent, "figure", "", { class: "card" });
  const head = make(figure, "div", "", { class: "head" });
  const place = { heading: make(head, "h3"), at: make(head, "small") };
  place.svg = draw(figure, "svg", { viewBox: "0 0 " + W + " " + H, tabindex: 0, role: "img", id: "chart " + title });
  place.legend = make(figure, "ul", "", { class: "legend" });
  places.set(title, place);
  return place;
};
const showChart = (parent, { title, unit: given, fromZero, curves: all, skips = [] }) => {
  const place = placeOf(parent, title);
  const { svg, legend } = place;
  const highest = Math.max(...all.flatMap(({ points }) => points.map(([, value]) => value)));
  const [unit, factor] = highest < 1 ? FINER[given] ?? [given, 1] : [given, 1];
  const curves = all.map((curve) => ({ ...curve, points: curve.points.map(([step, value]) => [step, value * factor]) }));
  place.heading.textContent = title + (unit === "" ? "" : " (" + unit + ")");
  svg.textContent = legend.textContent = "";
  const points = curves.flatMap((curve) => curve.points);
  const first = Math.min(...points.map(([step]) => step)), last = Math.max(...points.map(([step]) => step));
  const [low, high] = rangeOf(points.map(([, value]) => value), fromZero);
  const x = (step) => LEFT + (step - first) / (last - first || 1) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (high - value) / (high - low) * (H - TOP - BOTTOM);
  for (const [tick, text] of ticksOf(low, high, 5)) {
    draw(svg, "line", { class: "rule", x1: LEFT, x2: W - RIGHT, y1: y(tick), y2: y(tick) });
    draw(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, text);
  }
  for (const [tick] of ticksOf(first, Math.max(last, first + 1), 6).filter(([tick]) => Number.isInteger(tick) && tick <= last)) {
    const anchor = x(tick) > W - RIGHT - 16 ? "end" : "middle";
    draw(svg, "text", { x: anchor === "end" ? W - RIGHT : x(tick), y: H - 4, "text-anchor": anchor }, tick < 1e4 ? tick : tick / 1000 + "k");
  }
  for (const step of skips) {
    if (step >= first && step <= last) draw(svg, "line", { class: "mark", x1: x(step), x2: x(step), y1: H - BOTTOM - 8, y2: H - BOTTOM });
  }
  const cursor = draw(svg, "line", { class: "cursor", y1: TOP, y2: H - BOTTOM });
  const drawn = curves.map(({ name, points, colour }, i) => {
    const index = colour ?? i;
    const look = "c" + index % 6 + " d" + Math.floor(index / 6) % 3;
    const group = draw(svg, "g", { class: look + (name === "each step" ? " faint" : "") });
    draw(group, "polyline", { class: "curve", points: points.map(([step, value]) => x(step).toFixed(1) + "," + y(value).toFixed(1)).join(" ") });
    const dot = draw(group, "circle", { class: "dot", r: 3.5 });
    const item = make(legend, "li", "", { class: look });
    make(item, "i", "", { class: "swatch" });
    make(item, "span", name + " ");
    return { name, points, dot, label: make(item, "b") };
  });
  if (skips.length > 0) make(make(legend, "li"), "b", "▏skipped step", { class: "lost" });
  /* The end, unless the reader has chosen another step. */
  let at = last;
  const point = (step) => {
    at = Math.min(Math.max(step, first), last);
    place.chosen = at === last ? undefined : at;
    const texts = drawn.map(({ name, points, dot, label }) => {
      const [step, value] = nearest(points, at);
      dot.setAttribute("cx", x(step));
      dot.setAttribute("cy", y(value));
      label.textContent = number(value);
      return name + " " + number(value);
    });
    cursor.setAttribute("x1", x(at));
    cursor.setAttribute("x2", x(at));
    place.at.textContent = "step " + at.toLocaleString("en");
    svg.setAttribute("aria-label", title + " at step " + at + ": " + texts.join(", "));
  };
  point(place.chosen ?? last);
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
};`;
