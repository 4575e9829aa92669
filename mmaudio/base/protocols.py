"""Whether results of evaluation may be compared: the fields in which their protocols differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Parts of a protocol that have an entry for each metric or judge: of these, what several results used has to be alike.
SHARED_ENTRIES = ("metrics", "judges")
ABSENT = "not told"  # in place of the value that a protocol does not have


def flat(protocol: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name → value; an empty part is a value."""
    fields: dict[str, Any] = {}
    for name, value in protocol.items():
        fields |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
    return fields


def unlike_fields(protocols: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Dotted name of each field that keeps results from being compared → its value in every protocol, as JSON. Empty: comparable.

    A field that some protocols lack counts as unlike, but for the entries of `SHARED_ENTRIES`.
    """
    fields = [flat(protocol) for protocol in protocols]
    names = dict.fromkeys(name for told in fields for name in told)
    return {name: [_text(told, name) for told in fields] for name in names if not _is_alike(name, fields)}


def _is_alike(name: str, fields: Sequence[Mapping[str, Any]]) -> bool:
    values = [told[name] for told in fields if name in told]
    may_lack = name.split(".")[0] in SHARED_ENTRIES
    return (may_lack or len(values) == len(fields)) and all(value == values[0] for value in values)


def _text(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else ABSENT
