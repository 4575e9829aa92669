"""What is done between steps, when, and which of it failed."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmaudio.base.errors import listed
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.meters import Values


@dataclass(frozen=True)
class Every:
    """Due after every `every` finished iterations (0: never), and after those listed."""

    every: int = 0
    also: tuple[int, ...] = ()

    def due(self, steps_done: int) -> bool:
        return steps_done > 0 and ((self.every > 0 and steps_done % self.every == 0) or steps_done in self.also)


@dataclass(frozen=True)
class StageTimes:
    """When a stage is due; `at_start`: also before the first iteration, `at_end`: also after the last one."""

    every: Every
    at_start: bool = False
    at_end: bool = False


def stage_times(settings: TrainSettings, names: Collection[str], updates_per_epoch: Callable[[], int]) -> dict[str, StageTimes]:
    """When each of a run's stages is due, without those that never are.

    Args:
        names: of the stages that the run has.
        updates_per_epoch: called where a stage is due every so many epochs.
    """

    def every(epochs: int | None, interval: int) -> Every:
        return Every(epochs * updates_per_epoch()) if epochs else Every(interval)

    if settings.execute_only == "train":
        return {}
    times = {
        "valid": StageTimes(every(settings.valid.every, settings.val_interval), settings.validate_first, at_end=True),
        "evaluate": StageTimes(every(settings.evaluate.every, settings.eval_interval)),
        "generate": StageTimes(every(settings.generate.every, settings.log_extra_interval), at_start=True),
    }
    return {name: each for name, each in times.items() if name in names and each.every.every}


class Stage(Protocol):
    """Called on every rank, when the settings of its name say so."""

    @property
    def name(self) -> str:
        """`evaluate` or `generate`."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the numbers it may give, by any of which the best weights can be kept."""

    @property
    def higher_is_better(self) -> frozenset[str]:
        """Those of them that are better the higher they are."""

    def __call__(self, trainer: Any, steps_done: int) -> Values:
        """Collective. What is logged after so many finished iterations. `trainer` is the run's `Trainer`.

        It may fail on some ranks only, as long as ranks talk to each other by `distributed.collectives`. `trainer.stop.look` ends
        it early where the run was asked to stop; the run that goes on calls it anew.
        """


@dataclass(frozen=True)
class PlainStage:
    """A function (trainer, finished iterations) → numbers, as a stage."""

    name: str
    function: Callable[[Any, int], Values]
    measures: tuple[str, ...] = ()
    higher_is_better: frozenset[str] = frozenset()

    def __call__(self, trainer: Any, steps_done: int) -> Values:
        """As the function."""
        return self.function(trainer, steps_done)


FAILED = "failed"  # of `<stage>/failed` in a run's metrics: how many times so far; 0 where what was missed was made up for


@dataclass
class Missed:
    """Stage → the iterations after which it was due and failed, in order."""

    steps: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, lines: Iterable[Mapping[str, Any]]) -> "Missed":
        """As the lines of a run's metrics tell."""
        missed = cls()
        for line in lines:
            for stage in {name.partition("/")[0] for name in line if "/" in name}:
                failures = line.get(f"{stage}/{FAILED}")
                if failures:
                    missed.add(stage, line["steps_done"])
                elif failures is not None:
                    missed.steps.pop(stage, None)
        return missed

    def add(self, stage: str, steps_done: int) -> int:
        """Note a failure. Returns: how many there are of this stage."""
        steps = self.steps.setdefault(stage, [])
        steps.append(steps_done)
        return len(steps)

    def words(self) -> str:
        """`evaluate after 20, 40 and 3 more iterations; generate after 60 iterations`."""
        return "; ".join(f"{stage} after {listed([str(step) for step in steps])} iterations" for stage, steps in self.steps.items())
