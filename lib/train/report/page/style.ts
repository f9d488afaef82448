/** How pages of runs look: one column on a phone, cards on a desk, light or dark as the reader's system is. */

/**
 * Colours of text have a contrast of at least 4.5 on their background, those of curves 3 (WCAG 2.2, 1.4.3 and 1.4.11).
 */
export const STYLE = `:root {
  color-scheme: light dark;
  --ink: light-dark(#171a1f, #e6e9ed);
  --soft: light-dark(#586170, #a3acb8);
  --ground: light-dark(#f5f6f8, #111418);
  --card: light-dark(#fff, #1a1e24);
  --line: light-dark(#dde1e7, #2f353d);
  --accent: light-dark(#1c66b8, #6cb0f5);
  --good: light-dark(#1b7a3d, #5cc983);
  --bad: light-dark(#b3261e, #ff8a80);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.2rem clamp(1rem, 2.5vw, 2rem) 3rem; max-width: 90rem; background: var(--ground); color: var(--ink) }
h1 { font-size: 1.35rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 2rem 0 .7rem }
h3 { font-size: .95rem; margin: 0 }
a { color: var(--accent) }
small, .soft { color: var(--soft); font-size: .87rem }
button, input, select { font: inherit; color: inherit; accent-color: var(--accent) }
button { min-height: 2.2rem; padding: .2rem .8rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--card); cursor: pointer }
button:hover { border-color: var(--accent) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: .2rem }
[hidden] { display: none !important }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .8rem .9rem; min-width: 0; margin: 0 }
.grid { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)) }
.bar { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center }
.bar button { margin-left: auto }
.pill { white-space: nowrap; border-radius: 1rem; padding: .1rem .7rem; font-size: .85rem; font-weight: 600; border: 1.5px solid currentColor; color: var(--soft) }
.pill.running { color: var(--accent) }
.pill.finished { color: var(--good) }
.pill.stopped { color: var(--bad) }
.lost { color: var(--bad) }
progress { appearance: none; display: block; width: 100%; height: .55rem; margin: .8rem 0 .5rem; border: 0; border-radius: .3rem; background: var(--line); overflow: hidden; color: var(--accent) }
progress::-webkit-progress-bar { background: var(--line) }
progress::-webkit-progress-value { background: var(--accent) }
progress::-moz-progress-bar { background: var(--accent) }
#status { margin: 0; color: var(--soft); font-variant-numeric: tabular-nums }
.tiles { display: grid; gap: .7rem; margin: 1rem 0 0; grid-template-columns: repeat(auto-fit, minmax(8.2rem, 1fr)) }
.tiles div { padding: .55rem .8rem }
dt { color: var(--soft); font-size: .85rem }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
.tiles dd { font-size: 1.2rem; font-weight: 600; line-height: 1.3 }
.tiles .bad dd { color: var(--bad) }
#facts { display: grid; gap: .35rem 1.2rem; margin: 0; grid-template-columns: fit-content(40%) 1fr }
figure { margin: 0; min-width: 0 }
.head { display: flex; justify-content: space-between; gap: .8rem; align-items: baseline; margin-bottom: .3rem }
.head small { font-variant-numeric: tabular-nums; white-space: nowrap }
svg { width: 100%; display: block; touch-action: pan-y; overflow: visible }
svg text { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums }
.rule { stroke: var(--line); vector-effect: non-scaling-stroke }
.cursor { stroke: var(--soft); stroke-dasharray: 3 3; vector-effect: non-scaling-stroke }
.curve { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke }
.d1 .curve { stroke-dasharray: 7 5 }
.d2 .curve { stroke-dasharray: 2 4 }
.faint .curve { opacity: .4; stroke-width: 1 }
.dot { fill: currentColor; stroke: var(--card); stroke-width: 1.5 }
.mark { stroke: var(--bad); stroke-width: 2; vector-effect: non-scaling-stroke }
.legend { margin: .35rem 0 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .87rem; font-variant-numeric: tabular-nums }
.legend li { min-width: 0; overflow-wrap: anywhere }
.swatch { display: inline-block; width: 1rem; height: .28rem; border-radius: .14rem; margin-right: .4rem; vertical-align: middle; background: currentColor }
.legend span { color: var(--soft) }
.legend b { font-weight: 600; color: var(--ink) }
.legend b.lost { font-weight: 400; color: var(--bad) }
.c0 { color: light-dark(#1c66b8, #6cb0f5) }
.c1 { color: light-dark(#b84300, #ff9a57) }
.c2 { color: light-dark(#1b7a3d, #5cc983) }
.c3 { color: light-dark(#8a3fa0, #d593ea) }
.c4 { color: light-dark(#8a6400, #dcb43c) }
.c5 { color: light-dark(#b3235a, #ff85ae) }
.cell { fill: currentColor; stroke: var(--card) }
.cell.chosen { stroke: var(--ink); stroke-width: 2 }
.groups { display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 33rem), 1fr)) }
.pairs { display: flex; flex-wrap: wrap; gap: .9rem }
.pairs figure { flex: 1 1 240px; max-width: 24rem }
.pairs video, .pairs img { display: block; width: 100%; border-radius: .4rem; background: var(--line) }
figcaption { font-size: .87rem; margin-top: .25rem; overflow-wrap: anywhere }
.prompt { margin: 1rem 0 .4rem; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate }
.controls { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center }
.controls label { flex: 1 1 16rem }
.controls input { display: block; width: 100%; min-height: 2.2rem }
#player { margin: 0; display: flex; flex-wrap: wrap; gap: .4rem }
.clips { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)) }
.clips img { width: 100%; display: block; border-radius: .4rem; background: var(--line) }
.clips figcaption { white-space: pre-wrap; unicode-bidi: isolate; max-height: 6.5em; overflow: auto }
.clips small { display: block; overflow-wrap: anywhere }
.phase { display: grid; grid-template-columns: 9rem 1fr auto; gap: .2rem .8rem; align-items: center; margin: .35rem 0; font-variant-numeric: tabular-nums }
.phase > :first-child { white-space: nowrap }
.size { text-align: right }
.track { height: .8rem; border-radius: .2rem; background: var(--line); overflow: hidden }
.track i { display: block; height: 100%; background: var(--accent) }
.over .track i { background: var(--bad) }
.over .size { color: var(--bad) }
#notes { margin: 0; padding-left: 1.6rem; max-height: 20rem; overflow: auto }
#notes li { overflow-wrap: anywhere; unicode-bidi: isolate }
summary { cursor: pointer; min-height: 2.2rem; display: flex; align-items: center; gap: .4rem }
summary::before { content: "▸" }
[open] > summary::before { content: "▾" }
pre { overflow: auto; margin: .4rem 0 0; font-size: .85rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: break-word; max-width: 18rem }
th { font-weight: 600; font-size: .87rem; white-space: nowrap }
th button { min-height: 0; padding: 0; border: 0; background: none; font-weight: 600 }
@media (max-width: 32rem) {
  .phase { grid-template-columns: 1fr auto }
  .track { grid-column: 1 / -1; grid-row: 2 }
  .tiles { grid-template-columns: 1fr 1fr }
}`;
