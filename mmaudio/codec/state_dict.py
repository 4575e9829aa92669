"""Whether the tensors of a file are those of a network, by names and shapes alone."""

from collections.abc import Callable, Mapping
from typing import Any

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import MODES, Mode
from mmaudio.base.tensor_files import Shapes, mismatches, refusal


def find_mode(mode: str) -> Mode:
    """The constants of a mode. Raises: UserError for an unknown one."""
    if mode not in MODES:
        raise UserError(f"no mode {mode!r}{nearest(mode, MODES)}; known are {', '.join(MODES)}")
    return MODES[mode]


def check_state(
    state: Mapping[str, Any], shapes_for: Callable[[str], Shapes], mode: str, kind: str, dispensable: tuple[str, ...] = ()
) -> None:
    """Whether these are the tensors of a mode's network of a kind; `shapes_for` tells those of any mode.

    Raises: UserError with the first tensors that do not fit, how many there are, and the mode that they would fit.
    """
    wrong = mismatches(state, shapes_for(mode), dispensable)
    if not wrong:
        return
    fits = [other for other in MODES if other != mode and not mismatches(state, shapes_for(other), dispensable)]
    advice = f"they are of the {fits[0]} one: choose that mode" if fits else "get its published file anew"
    raise refusal(wrong, f"the {mode} {kind}", advice)
