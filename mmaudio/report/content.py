"""What a page shows, as plain values: the caller fills these in, the page only lays them out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics. `value` None means it cannot be told; then `note` says why."""

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Track:
    """One sound of a sample: the file a browser plays, and the wave its spectrogram is drawn from."""

    media: Path  # .mp4 or .webm with sound, or an audio file; copied into the page's folder
    wave: npt.NDArray[np.float32]  # (samples,), full scale is 1
    rate_hz: int
    onsets_s: Sequence[float] = ()


@dataclass(frozen=True)
class Sample:
    """One clip: its generated sound and, where there is one, its real sound. `numbers` are what cards are sorted by."""

    id: str
    caption: str
    generated: Track
    real: Track | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A whole page. `headline` are the few numbers that stand at the top, label → text."""

    title: str
    subtitle: str = ""
    headline: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()
    samples: Sequence[Sample] = ()
    metrics_log: Path | None = None  # JSON lines of a run; its losses are drawn


def score_metrics(scores: Mapping[str, Any]) -> list[Metric]:
    """Rows for the dictionary that scoring a folder gives (and that its JSON holds)."""
    onsets, counts = scores["onset_f1"], scores["counts"]
    tolerance = f"within {1000 * onsets['tolerance_s']:.0f} ms"
    difference = None
    if onsets["shuffled"] is not None:
        difference = onsets["generated"] - onsets["shuffled"]
    interval = tuple(onsets["interval"]) if onsets["interval"] else None
    frechet = scores["mel_frechet"]
    shuffled_note = onsets.get("reason", "against other clips' real sounds: what chance gives")
    frechet_note = frechet.get("reason", "between the sets of mel frames; lower is nearer")
    return [
        Metric("Onset F1, generated", onsets["generated"], note=f"generated against real sound of the same clip, {tolerance}"),
        Metric("Onset F1, shuffled", onsets["shuffled"], note=shuffled_note),
        Metric("Onset F1, difference", difference, interval, note="generated less shuffled, with its 95 % bootstrap interval"),
        Metric("Mean onset offset", onsets["mean_offset_s"], unit="s", note="of the onsets that agree; above 0: generated late"),
        Metric("Spectral distance", scores["spectral_distance"]["mean"], unit="dB", note="between average spectra; lower is nearer"),
        Metric(
            "Mel Fréchet distance",
            frechet["value"],
            unit="dB²",
            note=frechet_note,
        ),
        Metric("Clips scored", counts["paired"], note=f"of {counts['reference']} real and {counts['predicted']} generated sounds"),
    ]
