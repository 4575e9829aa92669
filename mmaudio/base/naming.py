"""Some of many, by name, as sentences have them."""

from collections.abc import Sequence

NUM_NAMED, NUM_LISTED = 3, 16


def named(names: Sequence[str]) -> str:
    """`'a', 'b', 'c' and 7 more`."""
    some = ", ".join(repr(name) for name in names[:NUM_NAMED])
    return some + (f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else "")


def listed(names: Sequence[str]) -> str:
    """`a, b, c` and so on, and how many more."""
    more = len(names) - NUM_LISTED
    return ", ".join(names[:NUM_LISTED]) + (f" and {more} more" if more > 0 else "")
