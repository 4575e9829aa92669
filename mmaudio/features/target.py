"""Where a store goes, and what must not be lost there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.files import check_replaceable
from mmaudio.clips.rejects import Reject, read_rejects, rejects_path
from mmaudio.features.inputs import Inputs
from mmaudio.store.schema import STORE_FILES, null_text_path, record_path, table_path


@dataclass(frozen=True)
class Target:
    """A store by its folder and name."""

    output_dir: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.output_dir / self.name

    @property
    def failed_tsv(self) -> Path:
        return rejects_path(self.folder)

    def check(self, tables: Sequence[Path]) -> None:
        """Raises: UserError if writing the store would replace something else: other files, or one of the tables read."""
        if not self.name or self.name != Path(self.name).name:
            raise UserError(f"the name of the store is {self.name!r}; want a name without slashes")
        check_replaceable(self.folder, STORE_FILES)
        beside = (table_path, record_path, null_text_path)
        written = [path.resolve() for path in (*(where(self.folder) for where in beside), self.failed_tsv)]
        for table in tables:
            if table.resolve() in written:
                raise UserError(
                    f"the store {self.folder} would replace {table}, which it is made from; give the store another name or folder"
                )
        foreign = [path for path in (where(self.folder) for where in beside) if path.exists() and not self.folder.exists()]
        if foreign:
            raise UserError(f"the store {self.folder} would replace {foreign[0]}, and no store is there that it belongs to; name another")

    def earlier_rejects(self, inputs: Inputs) -> list[Reject]:
        """What earlier extractions into this store rejected and these inputs are not about."""
        seen = {item.id for item in inputs.items} | {reject.id for reject in inputs.rejects}
        return [reject for reject in read_rejects(self.failed_tsv) if reject.id not in seen]
