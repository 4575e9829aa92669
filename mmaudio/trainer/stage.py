"""What is done between training steps besides validation, as the engine sees it: sound, scores, or whatever an entry point adds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mmaudio.trainer.meters import Values


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
        """Collective. What is logged after so many finished iterations. Raises: StoppedError, on every rank, to be called anew later."""


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
