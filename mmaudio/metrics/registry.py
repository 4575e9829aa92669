"""Every metric by name: what it is computed from and how, which way is better. The embedded ones need no weights and no caches.

Nothing is loaded for being listed here: a row names its formula, and whoever measures looks it up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmaudio.base.errors import Problems, listed, nearest

Better = Literal["lower", "higher", ""]  # "": neither; it tells how to read another number
Scope = Literal["all", "paired subset", "pairs"]
Formula = Literal["sounds", "frechet", "kl", "inception mean", "inception std", "cosine", "desync"]


@dataclass(frozen=True)
class Metric:
    """One number about a set of generated clips.

    `scope` says of which clips: of all that either side has; of those on both sides, unless sides are compared unpaired; or of
    pairs alone, so that there is no number without them. `part` is which part of a cache file's value it takes.
    """

    name: str
    better: Better
    unit: str
    version: int  # raised whenever the number comes to mean something else; part of the protocol
    formula: Formula
    reference_stem: str | None = None
    predicted_stem: str | None = None
    part: str = ""
    scope: Scope = "pairs"

    @property
    def needs_pairs(self) -> bool:
        return self.scope == "pairs"

    @property
    def is_embedded(self) -> bool:
        return self.formula == "sounds"

    @property
    def reference_stems(self) -> tuple[str, ...]:
        """The cache files of the reference that it needs; the set of clips to score may come from them alone."""
        return () if self.reference_stem is None else (self.reference_stem,)

    @property
    def predicted_stems(self) -> tuple[str, ...]:
        return () if self.predicted_stem is None else (self.predicted_stem,)

    def entry(
        self, value: float | None, *, interval: tuple[float, float] | None = None, num: int = 0, reason: str | None = None
    ) -> dict[str, Any]:
        """What a result says of it, ready for JSON.

        Args:
            value: the number; None where it cannot be told.
            interval: its 95 % interval, where there is one.
            num: how many clips it rests on.
            reason: why there is no number.
        """
        bounds = None if interval is None else list(interval)
        told = {"value": value, "interval": bounds, "unit": self.unit, "better": self.better, "num": num}
        return told if reason is None else {**told, "reason": reason}


def _sounds(name: str, better: Better, unit: str = "") -> Metric:
    return Metric(name, better, unit, 1, "sounds")


def _kl(name: str, stem: str, part: str = "") -> Metric:
    return Metric(name, "lower", "nat", 1, "kl", stem, stem, part)


def _frechet(name: str, stem: str, part: str = "", scope: Scope = "all") -> Metric:
    return Metric(name, "lower", "", 1, "frechet", stem, stem, part, scope)


def _inception(name: str, stem: str, part: str = "", scope: Scope = "all") -> tuple[Metric, Metric]:
    """Both rows. The spread is over ten parts of the set: how sure the mean is, so neither way of it is a better model."""
    reference = None if scope == "all" else stem
    mean = Metric(f"{name}-mean", "higher", "", 1, "inception mean", reference, stem, part, scope)
    return mean, Metric(f"{name}-std", "", "", 1, "inception std", reference, stem, part, scope)


def _cosine(name: str, reference_stem: str, predicted_stem: str) -> Metric:
    return Metric(name, "higher", "", 1, "cosine", reference_stem, predicted_stem)


_ROWS = (
    _sounds("onset_f1", "higher"),
    _sounds("onset_f1_shuffled", ""),  # what chance gives
    _sounds("onset_offset", "lower", "s"),  # without its sign
    _sounds("spectral_distance", "lower", "dB"),
    _sounds("mel_frechet", "lower", "dB^2"),
    # av-benchmark's names, in the order it reports them
    _frechet("FD-VGG", "vggish_features"),
    _frechet("FD-PANN", "pann_features", "2048"),
    _frechet("FD-PASST", "passt_features_embed", scope="paired subset"),
    _kl("KL-PANNS-softmax", "pann_features", "logits"),
    _kl("KL-PASST-softmax", "passt_logits"),
    *_inception("ISC-PANNS", "pann_features", "logits"),
    *_inception("ISC-PASST", "passt_logits", scope="paired subset"),
    _cosine("IB-Score", "imagebind_video", "imagebind_audio"),
    Metric("DeSync", "lower", "s", 1, "desync", "synchformer_video", "synchformer_audio"),
    _cosine("LAION-CLAP-Score", "clap_laion_text", "clap_laion_audio"),
    _cosine("MS-CLAP-Score", "clap_ms_text", "clap_ms_audio"),
)
METRICS = {row.name: row for row in _ROWS}
EMBEDDED = tuple(row.name for row in _ROWS if row.is_embedded)
CACHED = tuple(row.name for row in _ROWS if not row.is_embedded)
GROUPS = {"embedded": EMBEDDED, "av_bench": CACHED}


def metrics_named(words: Sequence[str], problems: Problems) -> list[Metric]:
    """The rows that words ask for, each a metric's name or a group's, in the registry's order and each once.

    Words that name nothing go to `problems`, each with the nearest that does.
    """
    chosen: set[str] = set()
    for word in words:
        if word not in METRICS and word not in GROUPS:
            known = [*GROUPS, *METRICS]
            problems.add(f"there is no metric {word!r}{nearest(word, known)}; known are {listed(list(GROUPS))} and {', '.join(METRICS)}")
        chosen.update(GROUPS.get(word, (word,)))
    return [row for row in _ROWS if row.name in chosen]


def metric_versions(rows: Iterable[Metric]) -> dict[str, int]:
    """Name → version: what two results must share for each metric that both have."""
    return {row.name: row.version for row in rows}
