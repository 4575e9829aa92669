"""How fast a run goes and when it will be done."""

import time
from dataclasses import dataclass, field


@dataclass
class Pace:
    """Times the steps of a window; reading it starts the next one."""

    _began_s: float = field(default_factory=time.monotonic)
    _waited_s: float = 0.0
    _num_steps: int = 0

    def add_step(self, waited_s: float) -> None:
        """Count a step, of whose time `waited_s` went into waiting for its batch."""
        self._num_steps += 1
        self._waited_s += waited_s

    def pop(self) -> dict[str, float]:
        """Seconds per step, stages between steps included, and the share of it spent waiting for data."""
        now = time.monotonic()
        elapsed = max(now - self._began_s, 1e-9)
        values = {"step_s": elapsed / max(self._num_steps, 1), "data_wait": self._waited_s / elapsed}
        self._began_s, self._waited_s, self._num_steps = now, 0.0, 0
        return values


def eta_words(step_s: float, steps_left: int) -> str:
    """`2:03:04 to go, done Tue 14:31`, in local time."""
    left_s = round(step_s * steps_left)
    at = time.strftime("%a %H:%M", time.localtime(time.time() + left_s))
    return f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} to go, done {at}"
