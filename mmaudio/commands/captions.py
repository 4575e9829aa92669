"""Tables a user hands to a command: which clip has which caption."""

from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.file_names import check_ids
from mmaudio.base.tables import read_table

CAPTION_COLUMNS = ("label", "caption")


def read_captions(path: Path) -> dict[str, str]:
    """Id → caption of a table with a column `label` or `caption`.

    Raises: UserError if it has neither, or for ids that are paths out of a folder.
    """
    table = read_table(path, ["id"])
    column = next((name for name in CAPTION_COLUMNS if name in table.columns), None)
    if column is None:
        raise UserError(f"{path} has neither a column 'label' nor 'caption'; its columns are {', '.join(table.columns)}")
    ids = table.column("id")
    check_ids(ids, str(path))
    return dict(zip(ids, table.column(column), strict=True))
