"""What is there of a row: at a glance, or verified byte by byte."""

import logging
from dataclasses import replace
from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.weights import hub
from mmaudio.weights.catalogue import HubSource, WeightRow
from mmaudio.weights.fetch import cached_difference, cached_files
from mmaudio.weights.verify import contradiction, expected_checksum, fingerprint, remember, remembered

log = logging.getLogger(__name__)
VERIFIED, UNVERIFIED, WRONG, MISSING, CACHED = "verified", "unverified", "wrong", "missing", "hub cache"


def state(row: WeightRow, root: Path) -> str:
    """One of the words above, from what is remembered: no file is read, no network asked."""
    targets = [target for target in row.targets(root).values() if target.is_file()]
    if len(targets) < len(row.files):
        return CACHED if not targets and cached_files(row) else MISSING
    taken = [remembered(target) for target in targets]
    expected = [expected_checksum(target, row.published_checksum) for target in targets]
    if None in taken or None in expected:
        return UNVERIFIED
    wrong = [contradiction(target, known, want) for target, known, want in zip(targets, taken, expected, strict=True) if known]
    return WRONG if any(wrong) else VERIFIED


def verify_row(row: WeightRow, root: Path) -> str:
    """Read every file of a row anew and compare it with what was published. Returns: what to say of it.

    A file of the hub that came by another way is compared with what the hub says of it, where the network may be asked.

    Raises: UserError with a sentence for each file that is missing or wrong.
    """
    targets = row.targets(root)
    if not any(target.exists() for target in targets.values()) and (paths := cached_files(row)):
        return _verify_cached(row, paths)
    problems, compared = Problems(), True
    for file, target in targets.items():
        if not target.is_file():
            problems.add(row.told(f"{target} is missing"))
            continue
        expected = _published(row, file, target)
        taken = fingerprint(target, anew=True)
        wrong = contradiction(target, taken, expected)
        if wrong:
            problems.add(row.told(f"{target} is not the published file: {wrong}", f"`{row.fetch_command}` gets the right one"))
        elif expected:
            remember(target, replace(taken, expected=taken.expected or f"sha256:{taken.sha256}"))
        compared = compared and expected is not None
    problems.raise_any()
    return f"{row.path(root)}: {'right' if compared else 'there, with nothing at hand to compare it with'}"


def _verify_cached(row: WeightRow, paths: list[Path]) -> str:
    for path in paths:
        fingerprint(path, anew=True)
        wrong = cached_difference(row, path)
        if wrong:
            raise UserError(row.told(f"{path} is not the published file: {wrong}", f"remove it and run `{row.fetch_command}`"))
    return f"{paths[0]}: right, in the hub's cache"


def _published(row: WeightRow, file: str, target: Path) -> str | None:
    expected = expected_checksum(target, row.published_checksum)
    if expected is not None or not isinstance(row.source, HubSource) or hub.is_offline():
        return expected
    try:
        return hub.source_file(row, row.source, file).expected
    except UserError as error:
        log.info("%s", error)
        return None
