"""Some of many, by name, as sentences have them."""

from collections.abc import Sequence

NUM_NAMED = 3


def named(names: Sequence[str]) -> str:
    """`'a', 'b', 'c' and 7 more`."""
    some = ", ".join(repr(name) for name in names[:NUM_NAMED])
    return some + (f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else "")
