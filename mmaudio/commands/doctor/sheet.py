"""How `mmaudio doctor` says what it found: sections of lines, and in the end everything that is missing."""

from collections.abc import Iterable, Sequence

from mmaudio.base.errors import EXIT_USER_ERROR

GB = 1e9
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float, unit: str) -> str:
    """`12.3 GB`, `780 kB`: three digits and the prefix that fits."""
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if value >= 0.9995 * scale), (1.0, ""))
    return f"{value / scale:.3g} {prefix}{unit}"


def print_section(title: str, lines: Iterable[tuple[str, str]]) -> None:
    """A title, and under it names and what there is to say of each, in two columns."""
    rows = list(lines)
    width = max((len(name) for name, _ in rows), default=0)
    print(title)
    for name, told in rows:
        print(f"  {name:<{width}}  {told}".rstrip())
    print(flush=True)


def conclude(sentences: Sequence[str]) -> int:
    """Print what is missing, all at once, each with what to do about it; the exit code."""
    if not sentences:
        print("nothing is missing", flush=True)
        return 0
    print(f"missing or wrong: {len(sentences)}")
    for number, sentence in enumerate(sentences, 1):
        print(f"  {number}. {sentence}")
    return EXIT_USER_ERROR
