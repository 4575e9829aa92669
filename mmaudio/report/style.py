"""The page's style: light and dark by the reader's setting, one column where the window is narrow."""

_COLOURS = """
:root {
  --ground: #f6f6f9; --panel: #ffffff; --ink: #1d1b26; --soft: #5c596b; --rule: #dddbe6; --accent: #4b3fd6; --on-accent: #ffffff;
  --warn: #fff3d6; --warn-rule: #c98a00;
  --c0: #4b3fd6; --c1: #c24a17; --c2: #117560; --c3: #a02c86; --c4: #8a6500; --c5: #2b6ea3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15141c; --panel: #1e1c28; --ink: #eceaf4; --soft: #a9a5bb; --rule: #353243; --accent: #a79dff; --on-accent: #15141c;
    --warn: #3a2f14; --warn-rule: #e0ac3f;
    --c0: #a79dff; --c1: #ff9d66; --c2: #5fd3b8; --c3: #f08ad8; --c4: #e3c353; --c5: #7fc1f2;
  }
}
"""

_TEXT = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
header, main { max-width: 80rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 1rem; }
h3 { font: 600 .95rem/1.4 ui-monospace, "Cascadia Mono", Menlo, monospace; margin: 0; overflow-wrap: anywhere; }
section { margin: 2.75rem 0; }
a { color: var(--accent); }
pre { overflow-x: auto; font-size: .85rem; }
kbd { font: 600 .78em ui-monospace, Menlo, monospace; border: 1px solid var(--rule); border-bottom-width: 2px; border-radius: 4px;
  padding: 0 .35em; background: var(--ground); color: var(--soft); white-space: nowrap; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--panel); padding: .5rem 1rem; z-index: 3; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); margin: 0; }
.soft { color: var(--soft); margin: 0; overflow-wrap: anywhere; }
.panel, .card { background: var(--panel); border: 1px solid var(--rule); border-radius: 12px; padding: 1.25rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
.tiles div { background: var(--panel); border: 1px solid var(--rule); border-radius: 12px; padding: .75rem 1rem; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.45rem; font-weight: 650; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.banner { background: var(--warn); border-left: 4px solid var(--warn-rule); border-radius: 8px; padding: .75rem 1rem; margin-bottom: 1rem;
  overflow-wrap: anywhere; }
.banner p, .banner ul { margin: 0; }
.lack, .lacks li { color: var(--soft); }
.lacks { margin: .75rem 0 0; padding: 0; list-style: none; font-size: .9rem; overflow-wrap: anywhere; }
.lacks li { border-left: 3px solid var(--warn-rule); padding-left: .6rem; margin-top: .35rem; }
"""

_TABLES = """
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding-bottom: .5rem; }
th, td { text-align: left; padding: .45rem 1.25rem .45rem 0; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-size: .85rem; font-weight: 600; overflow-wrap: anywhere; }
tbody th { font-weight: 550; }
.metrics { width: 100%; }
.metrics tbody th { min-width: 13rem; }
.what { display: block; color: var(--soft); font-size: .82rem; font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.metrics .number { white-space: nowrap; }
.metrics thead .number { white-space: normal; min-width: 6rem; }
.interval { display: block; color: var(--soft); font-size: .82rem; }
.mark { color: var(--accent); font-size: .82rem; font-weight: 600; }
.clips > * { color: var(--soft); font-size: .9rem; border-bottom: 0; padding-top: .2rem; padding-bottom: .2rem; }
.reasons { font-size: .9rem; margin: .75rem 0 0; padding-left: 1.5rem; }
.reasons li:target { color: var(--ink); }
figure { margin: 0; min-width: 0; }
.chart figcaption { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; font-weight: 550; margin-bottom: .5rem; }
.chart > svg { display: block; width: 100%; height: auto; }
.chart text { font-size: 12px; fill: var(--soft); }
.chart .rule { stroke: var(--rule); fill: none; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.1rem; list-style: none; margin: 0; padding: 0; font-weight: 400; color: var(--soft); }
.swatch { width: 1.9rem; height: .5rem; margin-right: .4rem; vertical-align: middle; }
.series path { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.series circle { fill: currentColor; stroke: currentColor; }
.series .hollow { fill: var(--panel); } .series .ring { fill: none; stroke-width: 2; } .series .live { stroke-dasharray: 3 5; }
.series .best { fill: currentColor; text-anchor: middle; }
g.s0 { color: var(--c0); } g.s1 { color: var(--c1); } g.s2 { color: var(--c2); }
g.s3 { color: var(--c3); } g.s4 { color: var(--c4); } g.s5 { color: var(--c5); }
.d1 path { stroke-dasharray: 7 4; } .d2 path { stroke-dasharray: 2 3; } .d3 path { stroke-dasharray: 10 3 2 3; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--accent); } details .chart { margin-top: 1.25rem; }
"""

_CARDS = """
.toolbar { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; margin: 1rem 0; padding: .6rem 0;
  background: var(--ground); }
.toolbar label { color: var(--soft); } .toolbar select { max-width: 15rem; }
.keys { margin: 0; display: flex; flex-wrap: wrap; gap: .1rem .9rem; color: var(--soft); font-size: .85rem; }
select, button, input[type=search] { font: inherit; color: var(--ink); background: var(--panel); border: 1px solid var(--rule);
  border-radius: 8px; padding: .35rem .7rem; }
button { cursor: pointer; } button:disabled { cursor: default; opacity: .55; }
select:hover, button:enabled:hover, input[type=search]:hover { border-color: var(--accent); }
.cards { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.25rem; list-style: none; margin: 0; padding: 0; }
.card { content-visibility: auto; contain-intrinsic-size: auto 33rem; scroll-margin-top: 7.5rem; }
.card[hidden] { display: none; }
.card.current { border-color: var(--accent); } article:focus-visible { outline-offset: .65rem; }
.caption { font-size: 1.1rem; margin: .15rem 0 .5rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.caption .of { color: var(--soft); font-size: .85rem; }
.sides { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 1.5rem; margin-top: .75rem; }
.screen { display: block; width: 100%; background: #12111a; border-radius: 8px; aspect-ratio: 16 / 9; object-fit: contain; cursor: pointer;
  margin-bottom: .75rem; }
.deck { display: flex; gap: .6rem; align-items: center; }
.play { min-width: 6.2rem; background: var(--accent); color: var(--on-accent); border-color: var(--accent); font-weight: 600; }
.seek { flex: 1; min-width: 3rem; accent-color: var(--accent); }
.clock { color: var(--soft); font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.switch { display: flex; flex-wrap: wrap; gap: .4rem; margin-top: .6rem; }
.hear { max-width: 100%; overflow-wrap: anywhere; text-align: left; }
.hear[aria-pressed=true] { background: var(--ink); color: var(--ground); border-color: var(--ink); font-weight: 600; }
.hear[aria-pressed=true]::after { content: " ♪"; }
.numbers { margin-top: .9rem; font-size: .9rem; } .numbers th, .numbers td { padding: .2rem 1rem .2rem 0; overflow-wrap: anywhere; }
.numbers tbody th { color: var(--soft); font-weight: 400; }
.tracks { display: grid; gap: .9rem; align-content: start; }
.track figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .2rem; overflow-wrap: anywhere; }
.track.heard figcaption::after { content: " ♪ heard"; color: var(--accent); }
.plot { position: relative; overflow: hidden; border-radius: 8px; background: #12111a; cursor: pointer; }
.track.heard .plot { box-shadow: 0 0 0 2px var(--accent); }
.plot img { display: block; width: 100%; height: auto; }
.hz { position: absolute; left: .3rem; transform: translateY(-50%); font-size: .68rem; color: #fff; text-shadow: 0 0 3px #000, 0 0 2px #000;
  pointer-events: none; }
.playhead { position: absolute; top: 0; bottom: 0; left: var(--at, 0%); width: 2px; margin-left: -1px; background: #fff; opacity: .9;
  pointer-events: none; }
.seconds { position: relative; height: 1.15rem; font-size: .72rem; color: var(--soft); } .seconds span { position: absolute; }
@media (min-width: 60rem) and (min-height: 40rem) { .toolbar { position: sticky; top: 0; z-index: 2; } }
@media (max-width: 50rem) {
  .sides { grid-template-columns: minmax(0, 1fr); }
  .card { contain-intrinsic-size: auto 55rem; scroll-margin-top: .5rem; }
}
@media (max-width: 44rem) {
  .chart text { font-size: 24px; } .chart .unit { display: none; } .chart > svg { overflow: visible; }
  .chart > svg path:not(.rule) { stroke-width: 4; } .chart > svg circle:not(.ring) { r: 5px; }
  header, main { padding-left: .8rem; padding-right: .8rem; }
  .panel, .card { padding: .8rem; }
  .metrics th, .metrics td { padding-right: .6rem; } .metrics tr > :last-child { padding-right: 0; }
  .metrics tbody th { min-width: 7.5rem; } .metrics thead .number { min-width: 4rem; } .metrics .interval { white-space: normal; }
}
@media (hover: none) { .keys { display: none; } }
@media (prefers-reduced-motion: no-preference) { .hear, .play { transition: background-color .12s; } }
"""

STYLE = _COLOURS + _TEXT + _TABLES + _CARDS
