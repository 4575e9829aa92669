"""Which of the scored clips a page shows: spread from the best to the worst, so that it does not flatter."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmaudio.report.content import Sample
from mmaudio.report.media_files import GENERATED, REAL, Folders, sample_of
from mmaudio.report.metric_names import in_order
from mmaudio.report.scores import Scores, clip_numbers

Rows = dict[str, list[tuple[int, Mapping[str, Any]]]]  # id → (place of the file of scores, row)


def sound_labels(files: Sequence[Scores]) -> list[str]:
    """What the generated sounds of each file of scores are called on the page."""
    if len(files) == 1:
        return [GENERATED]
    return [f"{scores.column.label} ({GENERATED})" if scores.column.label == REAL else scores.column.label for scores in files]


def all_labels(files: Sequence[Scores]) -> list[str]:
    """Labels of all sounds, in the order of the keys that switch to them."""
    return [REAL, *sound_labels(files)]


def _rows(files: Sequence[Scores]) -> Rows:
    """Rows by id: of the ids that every file of scores has, where there are such; otherwise of all."""
    rows: Rows = {}
    for place, scores in enumerate(files):
        for row in {row["id"]: row for row in scores.clips}.values():
            rows.setdefault(row["id"], []).append((place, row))
    everywhere = {clip_id: found for clip_id, found in rows.items() if len(found) == len(files)}
    return everywhere or rows


def _ranked_by(files: Sequence[Scores], rows: Rows) -> tuple[str, bool]:
    """The metric that clips are ranked by, the first that they have and of which one way is better, and whether that is up; or ""."""
    told = {name for found in rows.values() for name, value in clip_numbers(found[0][1]).items() if value is not None}
    better = {name: value.better for file in reversed(files) for name, value in file.column.values.items() if value.better}
    name = next((name for name in in_order(told) if name in better), "")
    return name, better.get(name) == "higher"


def chosen_ids(files: Sequence[Scores], most: int) -> list[str]:
    """At most `most` ids, spread evenly from the best to the worst by what the first file of scores says of each clip."""
    rows = _rows(files)
    name, is_up = _ranked_by(files, rows)

    def cost(clip_id: str) -> float:
        value = clip_numbers(rows[clip_id][0][1]).get(name)
        return math.inf if value is None else -value if is_up else value  # one without the number comes last

    ranked = sorted(rows, key=cost)
    keep = min(most, len(ranked))
    return [ranked[index * (len(ranked) - 1) // max(1, keep - 1)] for index in range(keep)]


def say_where(files: Sequence[Scores], folders: Folders) -> bool:
    """Whether anything says where generated sounds lie: the scores of a clip, or a folder a user named."""
    return folders.generated is not None or any(row.get("generated_file") for scores in files for row in scores.clips)


def samples_of(files: Sequence[Scores], folders: Folders, most: int) -> Iterator[Sample]:
    """The chosen clips, one by one. Of clips that were scored in several files, each file gives a sound."""
    rows, labels = _rows(files), sound_labels(files)
    for clip_id in chosen_ids(files, most):
        found = rows[clip_id]
        yield sample_of([(files[place], row) for place, row in found], [labels[place] for place, _ in found], folders)
