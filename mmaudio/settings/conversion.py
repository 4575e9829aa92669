"""From plain values (what a yaml file or a command line gives) to frozen dataclasses, every mistake found at once."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mmaudio.base.errors import Problems, nearest

T = TypeVar("T")
_WRONG = object()  # what a value of another kind is converted to
_SCALARS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", type(None): "null"}


def setting(
    default: Any, *, low: float | None = None, above: float | None = None, high: float | None = None, defines_run: bool = True
) -> Any:
    """A dataclass field with its allowed range: at least `low`, more than `above`, at most `high`.

    `defines_run` is False for what a run may change without becoming another run (devices, intervals, paths of results).
    """
    return dataclasses.field(default=default, metadata={"low": low, "above": above, "high": high, "defines_run": defines_run})


def build_settings(cls: type[T], plain: Any, prefix: str, problems: Problems) -> T:
    """Build `cls` from a mapping of plain values. A key that is missing keeps its default.

    Unknown keys (each with the nearest valid one), wrong types and values out of range go to `problems`; the default stands
    in for a wrong value, so that whoever checks on finds the next mistake as well. `prefix` is what the keys' dotted
    names start with, "" or "ema.".
    """
    if not isinstance(plain, Mapping):
        problems.add(f"{prefix.rstrip('.')} is {plain!r}; want a group of settings: {', '.join(field_types(cls))}")
        return cls()
    kinds, values = field_types(cls), {}
    for key in plain:
        if key not in kinds:
            problems.add(f"unknown setting {prefix}{key}{nearest(str(key), kinds)}")
    for field in dataclasses.fields(typing.cast(Any, cls)):
        if field.name not in plain:
            continue
        name, kind = f"{prefix}{field.name}", kinds[field.name]
        if dataclasses.is_dataclass(kind):
            values[field.name] = build_settings(typing.cast(Any, kind), plain[field.name], f"{name}.", problems)
            continue
        value = _convert(plain[field.name], kind)
        if value is _WRONG or not _in_range(value, field.metadata):
            problems.add(_wrong_value(name, plain[field.name], kind, field.metadata))
        else:
            values[field.name] = value
    return cls(**values)


def _wrong_value(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> str:
    bounds = _range_words(metadata)
    choices = [
        choice for part in (kind, *_alternatives(kind)) if typing.get_origin(part) is typing.Literal for choice in typing.get_args(part)
    ]
    hint = nearest(value, choices) if isinstance(value, str) and choices else ""
    if accepts_text(kind) and not isinstance(value, str):
        hint = "; put it in quotes"
    return f"{name} is {value!r}; want {describe(kind)}{', ' + bounds if bounds else ''}{hint}"


def _range_words(metadata: Mapping[str, Any]) -> str:
    words = [
        f"{said} {metadata[key]:g}"
        for key, said in (("low", "at least"), ("above", "more than"), ("high", "at most"))
        if metadata.get(key) is not None
    ]
    return " and ".join(words)


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    if isinstance(value, tuple):
        return all(_in_range(item, metadata) for item in value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    low, above, high = (metadata.get(key) for key in ("low", "above", "high"))
    return (low is None or value >= low) and (above is None or value > above) and (high is None or value <= high)


def _convert(value: Any, kind: Any) -> Any:
    """`value` as `kind`, or _WRONG."""
    if _alternatives(kind):
        found = [result for part in _alternatives(kind) if (result := _convert(value, part)) is not _WRONG]
        return found[0] if found else _WRONG
    if typing.get_origin(kind) is typing.Literal:
        return value if isinstance(value, str) and value in typing.get_args(kind) else _WRONG
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return _WRONG
        items = tuple(_convert(item, typing.get_args(kind)[0]) for item in value)
        return _WRONG if any(item is _WRONG for item in items) else items
    if typing.get_origin(kind) is Mapping:
        return dict(value) if isinstance(value, Mapping) else _WRONG
    return _convert_scalar(value, kind)


def _convert_scalar(value: Any, kind: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value) if math.isfinite(value) else _WRONG
    if kind is int and is_number:  # 3e5 is a whole number, too
        return int(value) if math.isfinite(value) and int(value) == value else _WRONG
    return value if type(value) is kind and kind not in (int, float) else _WRONG


# ---- The keys of a settings class, and what their values may be


def field_types(cls: Any) -> dict[str, Any]:
    """Name and resolved annotation of every field, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def dotted_keys(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a settings class as (dotted name, annotation), nested classes opened up."""
    for name, kind in field_types(cls).items():
        if dataclasses.is_dataclass(kind):
            yield from dotted_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", kind


def accepts_text(kind: Any) -> bool:
    """Whether a value of this kind may be any text, so that `1e5` and `007` must not be read as numbers."""
    return kind is str or any(accepts_text(part) for part in _alternatives(kind))


def accepts_null(kind: Any) -> bool:
    return type(None) in _alternatives(kind)


def describe(kind: Any) -> str:
    """What a value of this kind looks like, in words."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(str(choice) for choice in typing.get_args(kind))
    if _alternatives(kind):
        return " or ".join(describe(part) for part in _alternatives(kind))
    if typing.get_origin(kind) is tuple:
        return f"a list, each item {describe(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is Mapping:
        return "a group of settings of any names"
    return "a group of settings"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union else ()
