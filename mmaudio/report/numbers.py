"""Numbers as a person reads them."""

import math


def number_text(value: float | None) -> str:
    """A number for reading: three digits, a dash for one that cannot be told."""
    if value is None or not math.isfinite(value):
        return "–"
    is_whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if is_whole and abs(value) < 1e9 else f"{value:#.3g}".rstrip(".")


def bytes_text(num_bytes: int) -> str:
    """A size on disk, in MB."""
    return f"{num_bytes / 1e6:,.1f} MB"
