"""The store that is made, replaced or added to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmaudio.base.errors import UserError
from mmaudio.clips.clip_tables import Reject, read_rejects, rejects_path
from mmaudio.extraction.inputs import Inputs
from mmaudio.extraction.workspace import Workspace, recall_unfinished
from mmaudio.files.atomic import check_writable
from mmaudio.files.file_names import check_plain_name
from mmaudio.files.owned_files import check_recorded, record_beside
from mmaudio.files.ownership import at_end_of_links
from mmaudio.store.columns import open_columns
from mmaudio.store.format import TEXT_ROW, TEXT_TABLE, StoreRecord, hash_rows, null_text_path, table_path
from mmaudio.store.reader import Store, read_rows, read_store_record
from mmaudio.store.replacing import beside, standing, what_is_lost
from mmaudio.store.writer import StoreRecipe

_NAME = "base"


@dataclass(frozen=True)
class StoreToExtend:
    """Rows that stand already: ids, captions, and their record."""

    folder: Path
    ids: list[str]
    captions: list[str]
    record: StoreRecord

    @classmethod
    def open(cls, folder: Path) -> "StoreToExtend":
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
    def find(cls, latent_dir: Path, folder: Path) -> "StoreToExtend":
        """The store as it was when the extraction under way in `latent_dir` began, or as it is if none is.

        Raises: UserError as `open`, or if it was changed since.
        """
        content, path = recall_unfinished(latent_dir, _NAME), latent_dir / f"{_NAME}.json"
        if content is None:
            return cls.open(folder)
        if set(content) != {"folder", "record"} or not isinstance(content["folder"], str):
            raise UserError(f"{path} does not say which store rows are being added to; remove {latent_dir} to start anew")
        if content["folder"] != str(at_end_of_links(folder)):  # another's, which the manifest tells
            return cls.open(folder)
        record, now = StoreRecord.from_json(content["record"], str(path)), read_store_record(folder)
        ids, captions = (texts[: record.num_rows] for texts in read_rows(table_path(folder), folder))
        # A store that has other rows by now has those of this extraction, which was killed at its end.
        is_as_before = now is None or now.rows_hash != record.rows_hash or replace(now, mark=record.mark) == record
        if hash_rows(ids, captions) != record.rows_hash or not is_as_before:
            raise UserError(f"store {folder} was changed while rows were being added from {latent_dir}; remove that folder to start anew")
        return cls(folder, ids, captions, record)

    def remember(self, work: Workspace) -> None:
        work.remember(_NAME, {"folder": str(at_end_of_links(self.folder)), "record": self.record.to_json()})

    def text_rows(self) -> dict[str, int]:
        """Which row of the text table each caption has (compact layout)."""
        columns = open_columns(self.folder, str(self.folder), may_be_longer=True)
        rows = columns[TEXT_ROW].slice(0, self.record.num_rows).numpy().astype(np.int64).tolist()
        return dict(zip(self.captions, rows, strict=True))

    @property
    def num_captions(self) -> int:
        """Rows of its text table (compact layout)."""
        return len(set(self.captions))

    def check(self, recipe: StoreRecipe) -> None:
        """Raises: UserError naming all that differs between how the store was made and how rows are to be made."""
        differing = recipe.differences(self.record.to_json())
        lengths = {len(self.record.latent_mean), len(self.record.latent_std)}
        if not differing and lengths != {recipe.spec.latent_channels}:
            differing = [f"its record has latent statistics of {min(lengths)} channels, which have {recipe.spec.latent_channels}"]
        if differing:
            raise UserError(f"rows cannot be added to store {self.folder}: {'; '.join(differing)}; extract as it was, or to another store")


# ---- Where a store goes, and what must not be lost there

_INSTEAD = "add to it with --append, give the new one another name"
_OTHER_PLACE = "give the store another name or folder"


@dataclass(frozen=True)
class StoreTarget:
    """A store by its folder and name."""

    output_dir: Path
    name: str
    replace: bool = False  # move aside what stands there and would be lost
    appends: bool = False  # to the store that stands there

    @property
    def folder(self) -> Path:
        return self.output_dir / self.name

    @property
    def failed_tsv(self) -> Path:
        return rejects_path(self.folder)

    def check(self, tables: Sequence[Path]) -> None:
        """Raises: UserError if the store cannot be written, or would replace what this program did not make, or one of the tables read."""
        check_plain_name("the name of the store", self.name, null_text_path(self.folder).name.removeprefix(self.name))
        check_writable(self.output_dir)
        written = [*beside(self.folder).values(), self.failed_tsv, record_beside(self.failed_tsv)]
        folders = [path for path in written if path.is_dir()]
        if folders:
            raise UserError(f"{folders[0]} is a folder, where the store {self.folder} has to write a file; name another place")
        for table in tables:
            if at_end_of_links(table) in [at_end_of_links(path) for path in written]:
                raise UserError(f"the store {self.folder} would replace {table}, which it is made from; {_OTHER_PLACE}")
        if not self.replace:
            self._check_owner()

    def _check_owner(self) -> None:
        """Raises: UserError where this program did not write what stands there."""
        found, advice = standing(self.folder, grows=self.appends), f"{_OTHER_PLACE}, add --replace"
        refusal = found.refusal(advice)
        if refusal is not None and not (self.appends and found.record is None):  # where there is nothing to add to, that is said
            raise refusal
        was_unmarked = found.record is not None and not found.mark and not record_beside(self.failed_tsv).exists()
        if not was_unmarked:  # the version before left no record beside its table of rejects either
            check_recorded(self.failed_tsv, advice)

    def check_rows(self, inputs: Inputs, recipe: StoreRecipe, *, source: str, is_resumed: bool) -> None:
        """Raises: UserError if a store of these inputs, made by this recipe, would take the place of other rows, unasked.

        Args:
            source: what messages call where the inputs come from.
            is_resumed: an unfinished store is what a killed try of this extraction left.
        """
        lost = self._lost(inputs, recipe, source, is_resumed=is_resumed)
        if lost is not None and not self.replace:
            raise lost

    def _lost(self, inputs: Inputs, recipe: StoreRecipe, source: str, *, is_resumed: bool) -> UserError | None:
        rows = {(item.id, item.caption) for item in inputs.items}
        return what_is_lost(self.folder, rows, recipe.differences, source=source, place=_INSTEAD, is_resumed=is_resumed)

    def makes_way(self, inputs: Inputs, recipe: StoreRecipe) -> bool:
        """Whether what stands there has to be moved aside for the finished store of these inputs. Raises: UserError where it may not."""
        refusal = standing(self.folder).refusal(f"{_OTHER_PLACE}, add --replace")
        lost = refusal or self._lost(inputs, recipe, "this extraction", is_resumed=True)
        if lost is not None and not self.replace:
            raise lost
        return lost is not None

    def earlier_rejects(self, inputs: Inputs) -> list[Reject]:
        """What earlier extractions into this store rejected and these inputs are not about."""
        seen = {item.id for item in inputs.items} | {reject.id for reject in inputs.rejects}
        return [reject for reject in read_rejects(self.failed_tsv) if reject.id not in seen]
