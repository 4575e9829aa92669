"""Which inputs have to be done again on going on, because the files that their rows were made of were replaced."""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from mmaudio.features.inputs import Inputs
from mmaudio.features.ledger import MISSING, REJECTED, Entered
from mmaudio.features.stamps import GONE, UNKNOWN, Stamp, stamp_of
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError

_FILES_AT_ONCE = 64  # that a thread is handed, so that handing over costs little


def changed_inputs(inputs: Inputs, done: Entered, num_workers: int) -> list[int]:
    """Numbers of inputs that are done and whose file is another one now; each file is looked at once, in threads.

    A row whose file is gone stays: nothing could be put in its place. What was rejected may have another reason then.
    """
    of_files = ([number for number in numbers if _is_known(done, number)] for numbers in inputs.files())
    some = iter([numbers for numbers in of_files if numbers])

    def look(files: Sequence[list[int]]) -> list[Stamp]:
        return [stamp_of(inputs.path(inputs.items[numbers[0]])) for numbers in files]

    handed = iter(lambda: list(islice(some, _FILES_AT_ONCE)), [])
    changed: list[int] = []
    for files, stamps in read_ahead(look, handed, num_workers):
        assert not isinstance(stamps, MediaError)
        for numbers, stamp in zip(files, stamps, strict=True):
            changed += [number for number in numbers if _is_other(done, number, stamp)]
    return sorted(changed)


def _is_known(done: Entered, number: int) -> bool:
    return bool(done.states[number] != MISSING and done.stamps[number, 0] != UNKNOWN[0])


def _is_other(done: Entered, number: int, stamp: Stamp) -> bool:
    if stamp == GONE and done.states[number] != REJECTED:
        return False
    return bool(np.any(done.stamps[number] != stamp))
