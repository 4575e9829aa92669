"""The store an extraction adds to, as it was before: a killed addition is taken up from here, whatever became of the store."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmaudio.base.errors import UserError
from mmaudio.features.workspace import Workspace, recall_unfinished
from mmaudio.store.columns import open_columns
from mmaudio.store.publish import Recipe
from mmaudio.store.reader import Store, read_record, read_rows
from mmaudio.store.schema import TEXT_ROW, TEXT_TABLE, StoreRecord, hash_rows, table_path

_NAME = "base"


@dataclass(frozen=True)
class BaseStore:
    """Rows that stand already: ids, captions, and their record."""

    folder: Path
    ids: list[str]
    captions: list[str]
    record: StoreRecord

    @classmethod
    def open(cls, folder: Path) -> "BaseStore":
        """The store at a place. Raises: UserError if it is not one, not whole, or has no record."""
        if not folder.is_dir():
            raise UserError(f"there is no store at {folder} to add to; leave --append out to make one")
        store = Store.open(table_path(folder), folder)
        if store.record is None:
            raise UserError(f"store {folder} has no record of what made it, so nothing can be added; `mmaudio store convert` makes one")
        found = cls(folder, store.ids, store.captions, store.record)
        if store.layout == "compact" and store.column_shapes[TEXT_TABLE][0] != found.num_captions:
            raise UserError(f"store {folder} has texts that no row has, so nothing can be added; `mmaudio store convert` leaves them out")
        return found

    @classmethod
    def find(cls, latent_dir: Path, folder: Path) -> "BaseStore":
        """The store as it was when the extraction under way in `latent_dir` began, or as it is if none is.

        Raises: UserError as `open`, or if it was changed since.
        """
        content, path = recall_unfinished(latent_dir, _NAME), latent_dir / f"{_NAME}.json"
        if content is None:
            return cls.open(folder)
        if set(content) != {"folder", "record"} or not isinstance(content["folder"], str):
            raise UserError(f"{path} does not say which store rows are being added to; remove {latent_dir} to start anew")
        if content["folder"] != str(folder.resolve()):  # another's, which the manifest tells
            return cls.open(folder)
        record, now = StoreRecord.from_json(content["record"], str(path)), read_record(folder)
        ids, captions = (texts[: record.num_rows] for texts in read_rows(table_path(folder), folder))
        # A store that has other rows by now has those of this extraction, which was killed at its end.
        is_as_before = now is None or now.rows_hash != record.rows_hash or replace(now, mark=record.mark) == record
        if hash_rows(ids, captions) != record.rows_hash or not is_as_before:
            raise UserError(f"store {folder} was changed while rows were being added from {latent_dir}; remove that folder to start anew")
        return cls(folder, ids, captions, record)

    def remember(self, work: Workspace) -> None:
        work.remember(_NAME, {"folder": str(self.folder.resolve()), "record": self.record.to_json()})

    def text_rows(self) -> dict[str, int]:
        """Which row of the text table each caption has (compact layout)."""
        columns = open_columns(self.folder, str(self.folder), may_be_longer=True)
        rows = columns[TEXT_ROW].slice(0, self.record.num_rows).numpy().astype(np.int64).tolist()
        return dict(zip(self.captions, rows, strict=True))

    @property
    def num_captions(self) -> int:
        """Rows of its text table (compact layout)."""
        return len(set(self.captions))

    def check(self, recipe: Recipe) -> None:
        """Raises: UserError naming all that differs between how the store was made and how rows are to be made."""
        differing = recipe.differences(self.record.to_json())
        lengths = {len(self.record.latent_mean), len(self.record.latent_std)}
        if not differing and lengths != {recipe.spec.latent_channels}:
            differing = [f"its record has latent statistics of {min(lengths)} channels, which have {recipe.spec.latent_channels}"]
        if differing:
            raise UserError(f"rows cannot be added to store {self.folder}: {'; '.join(differing)}; extract as it was, or to another store")
