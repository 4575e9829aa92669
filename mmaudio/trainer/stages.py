"""What is done between steps, and when."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmaudio.base.errors import listed
from mmaudio.trainer.meters import Values


@dataclass(frozen=True)
class Every:
    """Due after every `every` finished iterations (0: never), and after those listed."""

    every: int = 0
    also: tuple[int, ...] = ()

    def due(self, steps_done: int) -> bool:
        return steps_done > 0 and ((self.every > 0 and steps_done % self.every == 0) or steps_done in self.also)


# ---- What is done between training steps besides validation, as the engine sees it: sound, scores, or whatever an entry point adds


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

    def __call__(self, solver: Any, steps_done: int) -> Values:
        """Collective. What is logged after so many finished iterations.

        It may fail on some ranks only, as long as ranks talk to each other by the functions of `base.ranks`. `solver.stop.look` ends
        it early where the run was asked to stop; the run that goes on calls it anew.
        """


@dataclass(frozen=True)
class PlainStage:
    """A function (solver, finished iterations) → numbers, as a stage."""

    name: str
    function: Callable[[Any, int], Values]
    measures: tuple[str, ...] = ()
    higher_is_better: frozenset[str] = frozenset()

    def __call__(self, solver: Any, steps_done: int) -> Values:
        """As the function."""
        return self.function(solver, steps_done)


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
