"""What is there of a row: at a glance, or verified byte by byte."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmaudio.base.checksums import check_sums
from mmaudio.base.errors import Problems, UserError
from mmaudio.weights import hub
from mmaudio.weights.catalogue import HubSource, WeightRow
from mmaudio.weights.fetch import cached_files
from mmaudio.weights.verify import contradiction, expected_checksum, fingerprint, remember, remembered

log = logging.getLogger(__name__)
VERIFIED, UNVERIFIED, WRONG, MISSING, CACHED = "verified", "unverified", "wrong", "missing", "hub cache"


def state(row: WeightRow, root: Path) -> str:
    """One of the words above, from what is remembered: no file is read, no network asked."""
    targets = [target for target in row.targets(root).values() if target.is_file()]
    if len(targets) < len(row.files):
        return CACHED if not targets and cached_files(row) else MISSING
    wrong = []
    for target in targets:
        known, expected = remembered(target), expected_checksum(target, row.published_checksum)
        if known is None or expected is None or not known.can_answer(expected):
            return UNVERIFIED
        wrong.append(contradiction(target, known, expected))
    return WRONG if any(wrong) else VERIFIED


def verify_row(row: WeightRow, root: Path) -> str:
    """Read every file of a row anew and compare it with what was published. Returns: what to say of it.

    A file of the hub that came by another way is compared with what the hub says of it, where the network may be asked; one that can be
    compared with nothing, with the checksums that it carries.

    Raises: UserError with a sentence for each file that is missing or wrong.
    """
    targets = row.targets(root)
    if not any(target.exists() for target in targets.values()) and (paths := cached_files(row)):
        return _verify_cached(row, paths)
    problems, compared = Problems(), dict[str, bool]()
    for file, target in targets.items():
        if not target.is_file():
            problems.add(row.told(f"{target} is missing"))
            continue
        expected = _published(row, file, target)
        taken = fingerprint(target, expected, anew=True)
        wrong = contradiction(target, taken, expected)
        if wrong:
            problems.add(row.told(f"{target} is not the published file: {wrong}", f"`{row.fetch_command}` gets the right one"))
        elif expected:
            remember(target, replace(taken, expected=taken.expected or f"sha256:{taken.sha256}"))
        else:
            compared[file] = bool(problems.check(partial(check_sums, target)))
    problems.raise_any()
    return f"{row.path(root)}: {_verdict(compared)}"


def _verdict(compared: Mapping[str, bool]) -> str:
    """What to say of a row whose files are right, but for these, of which nothing was published: whether their own checksums are."""
    if not compared:
        return "right"
    said = ["there, with nothing at hand to compare it with"]
    for words, has_own in (("right by the checksums in it", True), ("unchecked", False)):
        if named := [file for file, own in compared.items() if own is has_own]:
            said.append(f"{words}: {', '.join(named)}")
    return "; ".join(said)


def _verify_cached(row: WeightRow, paths: list[Path]) -> str:
    compared = {}
    for path in paths:
        expected = row.published_checksum or hub.cached_checksum(path)
        if wrong := contradiction(path, fingerprint(path, expected, anew=True), expected):
            raise UserError(row.told(f"{path} is not the published file: {wrong}", f"remove it and run `{row.fetch_command}`"))
        if expected is None:
            compared[path.name] = check_sums(path)
    return f"{paths[0]}: {_verdict(compared)}, in the hub's cache"


def _published(row: WeightRow, file: str, target: Path) -> str | None:
    expected = expected_checksum(target, row.published_checksum)
    if expected is not None or not isinstance(row.source, HubSource) or hub.is_offline():
        return expected
    try:
        return hub.source_file(row, row.source, file).expected
    except UserError as error:
        log.info("%s", error)
        return None
