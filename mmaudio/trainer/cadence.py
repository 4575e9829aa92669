"""When something is due, in finished iterations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cadence:
    """Due after every `every` finished iterations (0: never), and after those listed."""

    every: int = 0
    also: tuple[int, ...] = ()

    def due(self, steps_done: int) -> bool:
        return steps_done > 0 and ((self.every > 0 and steps_done % self.every == 0) or steps_done in self.also)
