"""Whether a store may be made where one stands: the same rows, made the same way, may be made again; others are not lost unasked."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.naming import named
from mmaudio.store.reader import read_record, read_rows
from mmaudio.store.schema import table_path


def check_rebuilds(
    folder: Path,
    rows: Container[tuple[str, str]],
    differences: Callable[[Mapping[str, Any]], list[str]],
    *,
    source: str,
    advice: str,
) -> None:
    """Raises: UserError, naming what differs, if writing a store of `rows` would lose rows that stand at `folder`.

    Args:
        rows: id and caption of each.
        differences: what differs between how rows were made, by a record's fields, and how these are.
        source: what messages call where these rows come from.
        advice: what the user may do instead.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        record, (ids, captions) = read_record(folder), read_rows(table_path(folder), folder)
    except UserError as error:
        raise UserError(f"a store at {folder} would be replaced, and whose it is cannot be told ({error.sentences[0]}); {advice}") from None
    if record is None:
        raise UserError(f"store {folder} would be replaced, and has no record of what made it; {advice}")
    others = [row_id for row_id, caption in zip(ids, captions, strict=True) if (row_id, caption) not in rows]
    lost = f"{len(others)} of its {len(ids)} rows ({named(others)}) are not, with their captions, among those of {source}"
    words = ([lost] if others else []) + differences(record.to_json())
    if words:
        raise UserError(f"store {folder} would be replaced by another one: {'; '.join(words)}; {advice}")
