"""The page's skeleton, its style and its few lines of script. `$name` marks where content goes; all of it is escaped."""

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
$style
</style>
</head>
<body>
$skip
<header>
<h1>$title</h1>
$subtitle
$headline
</header>
<main>
$sections
</main>
<script>
$script
</script>
</body>
</html>
""")

STYLE = """
:root {
  --ground: #f6f6f9; --panel: #ffffff; --ink: #1d1b26; --soft: #5c596b; --rule: #dddbe6; --accent: #4b3fd6;
  --c0: #4b3fd6; --c1: #d1551f; --c2: #14806a; --c3: #a02c86;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15141c; --panel: #1e1c28; --ink: #eceaf4; --soft: #a9a5bb; --rule: #353243; --accent: #a79dff;
    --c0: #a79dff; --c1: #ff9d66; --c2: #5fd3b8; --c3: #f08ad8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
header, main { max-width: 76rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 1rem; }
h3 { font: 600 .95rem/1.4 ui-monospace, "Cascadia Mono", Menlo, monospace; margin: 0; overflow-wrap: anywhere; }
section { margin: 2.75rem 0; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--panel); padding: .5rem 1rem; z-index: 1; }
.soft { color: var(--soft); margin: 0; overflow-wrap: anywhere; }
.panel, .card { background: var(--panel); border: 1px solid var(--rule); border-radius: 12px; padding: 1.25rem; }
.panel { overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
.tiles div { background: var(--panel); border: 1px solid var(--rule); border-radius: 12px; padding: .75rem 1rem; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.45rem; font-weight: 650; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .5rem 1.5rem .5rem 0; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-size: .85rem; font-weight: 500; }
tbody th { font-weight: 550; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.note { color: var(--soft); font-size: .9rem; min-width: 15rem; }
figure { margin: 0; min-width: 0; }
.chart figcaption { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; font-weight: 550; margin-bottom: .5rem; }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { font-size: 12px; fill: var(--soft); }
.chart .rule { stroke: var(--rule); fill: none; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.1rem; list-style: none; margin: 0; padding: 0; font-weight: 400; color: var(--soft); }
.legend li::before { content: ""; display: inline-block; width: .9rem; height: .25rem; border-radius: 2px; margin: 0 .4rem .2rem 0;
  background: currentColor; }
.legend .s0::before { background: var(--c0); } .legend .s1::before { background: var(--c1); }
.legend .s2::before { background: var(--c2); } .legend .s3::before { background: var(--c3); }
.series path { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.series circle { fill: currentColor; }
g.s0 { color: var(--c0); } g.s1 { color: var(--c1); } g.s2 { color: var(--c2); } g.s3 { color: var(--c3); }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--accent); } details .chart { margin-top: 1.25rem; }
.toolbar { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; margin: 1rem 0; }
.toolbar[hidden] { display: none; }
select, button { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--rule);
  border-radius: 8px; padding: .35rem .7rem; }
button { cursor: pointer; } select:hover, button:hover { border-color: var(--accent); }
.cards { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.25rem; list-style: none; margin: 0; padding: 0; }
.card { content-visibility: auto; contain-intrinsic-size: auto 40rem; }
.caption { font-size: 1.1rem; margin: .15rem 0 .75rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.numbers { display: flex; flex-wrap: wrap; gap: .4rem .6rem; margin: 0 0 1rem; }
.numbers div { display: flex; gap: .45rem; background: var(--ground); border: 1px solid var(--rule);
  border-radius: 99px; padding: .1rem .75rem; font-size: .88rem; }
.numbers dt { color: var(--soft); } .numbers dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.tracks { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.25rem; }
@media (max-width: 44rem) {
  .tracks { grid-template-columns: minmax(0, 1fr); }
  .chart text { font-size: 22px; }
  .chart .unit { display: none; }
  header, main { padding-left: 1rem; padding-right: 1rem; }
}
.tracks figcaption { font-weight: 600; margin-bottom: .4rem; }
.player { display: block; width: 100%; background: #12111a; border-radius: 8px; }
video.player { aspect-ratio: 16 / 9; max-height: 16rem; object-fit: contain; }
.tracks img { display: block; width: 100%; height: auto; border-radius: 8px; margin-top: .6rem; background: #12111a; }
"""

SCRIPT = """
(() => {
  const players = [...document.querySelectorAll('.player')];
  for (const player of players) {
    player.addEventListener('play', () => players.forEach(other => { if (other !== player) other.pause(); }));
  }
  // First frames are fetched as cards come near, so that a page of hundreds opens at once.
  const near = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { entry.target.preload = 'metadata'; near.unobserve(entry.target); }
  }, { rootMargin: '400px' });
  players.forEach(player => near.observe(player));

  const toolbar = document.querySelector('.toolbar');
  if (!toolbar) return;
  const list = document.querySelector('.cards'), cards = [...list.children];
  const by = toolbar.querySelector('select'), order = toolbar.querySelector('button'), said = toolbar.querySelector('output');
  let rising = true;
  const sort = () => {
    const key = card => by.value === '' ? cards.indexOf(card) : parseFloat(JSON.parse(card.dataset.numbers)[by.value]);
    const keyed = cards.map(card => [key(card), card]);
    keyed.sort(([a], [b]) => isNaN(a) ? (isNaN(b) ? 0 : 1) : isNaN(b) ? -1 : rising ? a - b : b - a);
    list.append(...keyed.map(([, card]) => card));
    order.textContent = rising ? 'Lowest first' : 'Highest first';
    said.textContent = 'Sorted by ' + by.selectedOptions[0].text + ', ' + order.textContent.toLowerCase();
  };
  by.addEventListener('change', sort);
  order.addEventListener('click', () => { rising = !rising; sort(); });
  toolbar.hidden = false;
})();
"""
