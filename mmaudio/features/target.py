"""Where a store goes, and what must not be lost there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.file_names import check_plain_name
from mmaudio.base.files import check_replaceable
from mmaudio.base.places import check_writable
from mmaudio.clips.rejects import Reject, read_rejects, rejects_path
from mmaudio.features.inputs import Inputs
from mmaudio.store.publish import Recipe
from mmaudio.store.replacing import check_rebuilds
from mmaudio.store.schema import STORE_FILES, null_text_path, record_path, table_path

_ADVICE = "add to it with --append, give the new one another name, or have it replaced: --replace"


@dataclass(frozen=True)
class Target:
    """A store by its folder and name."""

    output_dir: Path
    name: str
    replace: bool = False  # whatever store stands there

    @property
    def folder(self) -> Path:
        return self.output_dir / self.name

    @property
    def failed_tsv(self) -> Path:
        return rejects_path(self.folder)

    def check(self, tables: Sequence[Path]) -> None:
        """Raises: UserError if the store cannot be written, or would replace something else: other files, or one of the tables read."""
        check_plain_name("the name of the store", self.name, null_text_path(self.folder).name.removeprefix(self.name))
        check_writable(self.output_dir)
        check_replaceable(self.folder, STORE_FILES)
        beside = (table_path, record_path, null_text_path)
        written = [path.resolve() for path in (*(where(self.folder) for where in beside), self.failed_tsv)]
        folders = [path for path in written if path.is_dir()]
        if folders:
            raise UserError(f"{folders[0]} is a folder, where the store {self.folder} has to write a file; name another place")
        for table in tables:
            if table.resolve() in written:
                raise UserError(
                    f"the store {self.folder} would replace {table}, which it is made from; give the store another name or folder"
                )
        foreign = [path for path in (where(self.folder) for where in beside) if path.exists() and not self.folder.exists()]
        if foreign:
            raise UserError(f"the store {self.folder} would replace {foreign[0]}, and no store is there that it belongs to; name another")

    def check_rows(self, inputs: Inputs, recipe: Recipe, *, source: str = "this extraction", is_ours: bool = False) -> None:
        """Raises: UserError if a store of these inputs, made by this recipe, would take the place of other rows.

        Args:
            source: what messages call where the inputs come from.
            is_ours: a store without table or record is what a killed try of this extraction left.
        """
        if self.replace or (is_ours and not (table_path(self.folder).exists() and record_path(self.folder).exists())):
            return
        rows = {(item.id, item.caption) for item in inputs.items}
        check_rebuilds(self.folder, rows, recipe.differences, source=source, advice=_ADVICE)

    def earlier_rejects(self, inputs: Inputs) -> list[Reject]:
        """What earlier extractions into this store rejected and these inputs are not about."""
        seen = {item.id for item in inputs.items} | {reject.id for reject in inputs.rejects}
        return [reject for reject in read_rejects(self.failed_tsv) if reject.id not in seen]
