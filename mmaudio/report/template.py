"""The page's skeleton. `$name` marks where content goes; all of it is escaped."""

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

LEGEND = (
    '<p class="soft">Each picture shows a sound’s waveform above its spectrogram; within a sample all share one scale of time, level'
    " and colour. Triangles mark the onsets heard in a sound, dotted lines those of the others. Click a picture to go there.</p>"
    "<noscript><p>Playing and sorting need scripts, which this browser has turned off.</p></noscript>"
)

_KEYS = (("Space", "play, pause"), ("1–9", "hear that sound"), ("s", "the next sound"), ("← →", "1 s back, on"), ("j k", "next, previous"))

TOOLBAR = Template(
    '<div class="toolbar" role="group" aria-label="Order of the samples"><label>Sort by <select class="sort">'
    '<option value="">order given</option>$choices</select></label>'
    '<button type="button" class="order" disabled>Lowest first</button>'
    '<label>Find <input type="search" class="find" placeholder="caption or id"></label>'
    '<output class="count soft">$num_samples samples</output>'
    '<p class="keys" aria-label="Keys">'
    + " ".join(f"<span><kbd>{key}</kbd> {what}</span>" for key, what in _KEYS)
    + '</p></div><p class="spoken" role="status" aria-live="polite"></p>'
)
