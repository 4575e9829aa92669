"""Ids as tables and stores of others may have them, each of a shape that has been, or could be, taken for a path."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """`is_refused`: a table that a user hands over may not have it. `is_name`: its files are called by it as it is."""

    name: str
    ids: tuple[str, ...]
    is_refused: bool = False
    is_name: bool = True


def shapes(outside: Path) -> list[Shape]:
    """Every shape; the paths among them lead to `outside`, which must be given without links."""
    up = "../" * len(outside.parts)
    return [
        Shape("plain", ("00008004", "0B4dYTMsgHA_000130")),
        Shape("slash", ("street/rain", "street/deep/rain")),
        Shape("absolute", (f"{outside}/absolute", f"//{outside}/absolute"), is_refused=True, is_name=False),
        Shape("up", ("../up", "..", f"{up}{str(outside)[1:]}/up"), is_refused=True, is_name=False),
        Shape("up inside", ("a/../../up", "a/..", "a/../b"), is_refused=True, is_name=False),
        Shape("point", ("./point", "a/./point", "."), is_name=False),
        Shape("empty part", ("a//b", "a/", ""), is_name=False),
        Shape("NUL", ("nul\0byte", "\0"), is_refused=True, is_name=False),
        Shape("long", ("x" * 300, "x" * 299 + "y", "ü" * 130), is_name=False),
        Shape("long in the middle", ("a/" + "y" * 300 + "/b",), is_name=False),
        Shape("longer than a path", ("ab/" * 1500 + "c",), is_name=False),
        Shape("just short enough", ("z" * 250,)),
        Shape("emoji", ("🎈 rain 🐦", "犬/吠える")),
        Shape("Unicode forms", ("é", "e\u0301")),
        Shape("case", ("Rain", "rain", "RAIN")),
        Shape("dots", ("...", ".hidden", "a.b.", ".hidden/a")),
        Shape("spaces", (" both ends ", "a b")),
        Shape("dash", ("-rf", "--output")),
        Shape("control", ("a\nb", "a\tb", "a\rb")),
        Shape("quotes", ("'", '"quoted"', "a\\b", "$(x) `x` *?[a]")),
        Shape("suffix", ("clip.flac", "clip.mp4", "clip.flac.flac")),
        Shape("like an escape", ("%2E%2E", "~2c26b46b68ffc68f", "%00")),
        Shape("URL", ("http://host/x", "concat:a|b", "pipe:0"), is_name=False),
        Shape("names of ours", ("samples", "cache/x", "scores", "real/x", ".mmaudio-1.tmp")),
    ]


def all_ids(outside: Path, *, refused: bool | None = None) -> list[str]:
    """Ids of all shapes, or of those alone that tables may not have, or may."""
    return [name_id for shape in shapes(outside) if refused in (None, shape.is_refused) for name_id in shape.ids]
