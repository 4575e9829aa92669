"""Where the numbers of a run go: a file of lines, TensorBoard and the text log."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmaudio.files.atomic import parse_json, write_text
from mmaudio.files.ownership import move_aside
from mmaudio.runs.folder import METRICS_FILE

log = logging.getLogger(__name__)


class Tracker:
    """Writes on rank 0 and does nothing elsewhere.

    Args:
        run_dir: folder of the run.
        writes: whether this process is the one that writes.
        steps_done: where the run continues; what an interrupted run wrote beyond is dropped. None: it does not, and nothing is.
    """

    def __init__(self, run_dir: Path, *, writes: bool, steps_done: int | None = 0) -> None:
        self._path = run_dir / METRICS_FILE
        self._writes = writes
        self._board: Any = None
        if writes:
            from torch.utils.tensorboard import SummaryWriter  # 1 s to import, and only one process writes

            if steps_done is not None:
                kept = [line for line in self._known_lines() if line["steps_done"] <= steps_done] if steps_done else []
                write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
            self._board = SummaryWriter(str(run_dir), purge_step=steps_done + 1 if steps_done else None)

    def _known_lines(self) -> list[dict[str, Any]]:
        """The lines of the run so far. A file that holds anything else is moved aside, and said."""
        try:
            lines = read_metrics(self._path.parent)
            if all(isinstance(line, dict) and isinstance(line.get("steps_done"), int) for line in lines):
                return lines
        except (OSError, ValueError):
            pass
        move_aside(self._path, follows_link=True)
        return []

    def log(self, stage: str, values: Mapping[str, float | list[float]], steps_done: int, remark: str = "") -> None:
        """Record averages as `stage/name` at `steps_done`; lists are histograms by time. `remark` ends the text line."""
        if not self._writes or not values:
            return
        named = {f"{stage}/{name}": value for name, value in values.items()}
        append_metrics(self._path.parent, named, steps_done)
        scalars = {name: value for name, value in named.items() if isinstance(value, float)}
        for name, value in named.items():
            if isinstance(value, list):
                self._board.add_figure(name, _bar_chart(value), steps_done)
            else:
                self._board.add_scalar(name, value, steps_done)
        shown = "  ".join(f"{name.split('/', 1)[1]} {value:.4g}" for name, value in scalars.items())
        log.info("%s %d: %s%s", stage, steps_done, shown, f"  {remark}" if remark else "")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _bar_chart(heights: list[float]) -> Any:
    """A figure of one bar per bin of t; an empty bin has none."""
    from matplotlib.figure import Figure  # a second to import, for runs that validate

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    width = 1 / len(heights)
    axes.bar([(i + 0.5) * width for i in range(len(heights))], [0.0 if math.isnan(height) else height for height in heights], width)
    axes.set(xlabel="t (0 noise, 1 data)", ylabel="loss", xlim=(0, 1))
    return figure


# ---- The file of lines


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Every line of a run's metrics: `steps_done`, and values by `stage/name` (null where there was nothing to average).

    A last line torn by a kill is left out.
    """
    path = run_dir / METRICS_FILE
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return [parse_json(line) for line in lines[:-1] if line]  # what follows the last line break is no whole line


def append_metrics(run_dir: Path, values: Mapping[str, float | list[float]], steps_done: int) -> None:
    """Add a line to a run's metrics: values by `stage/name`."""
    with open(run_dir / METRICS_FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps({"steps_done": steps_done, **{name: _as_json(value) for name, value in values.items()}}) + "\n")


def _as_json(value: float | list[float]) -> Any:
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return value if math.isfinite(value) else None
