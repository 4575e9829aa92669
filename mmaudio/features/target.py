"""Where a store goes, and what must not be lost there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.file_names import check_plain_name
from mmaudio.base.marked_files import check_recorded, record_beside
from mmaudio.base.places import check_writable
from mmaudio.clips.rejects import Reject, read_rejects, rejects_path
from mmaudio.features.inputs import Inputs
from mmaudio.store.publish import Recipe
from mmaudio.store.replacing import beside, standing, what_is_lost
from mmaudio.store.schema import null_text_path

_INSTEAD = "add to it with --append, give the new one another name"
_OTHER_PLACE = "give the store another name or folder"


@dataclass(frozen=True)
class Target:
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
            if table.resolve() in [path.resolve() for path in written]:
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

    def check_rows(self, inputs: Inputs, recipe: Recipe, *, source: str, is_resumed: bool) -> None:
        """Raises: UserError if a store of these inputs, made by this recipe, would take the place of other rows, unasked.

        Args:
            source: what messages call where the inputs come from.
            is_resumed: an unfinished store is what a killed try of this extraction left.
        """
        lost = self._lost(inputs, recipe, source, is_resumed=is_resumed)
        if lost is not None and not self.replace:
            raise lost

    def _lost(self, inputs: Inputs, recipe: Recipe, source: str, *, is_resumed: bool) -> UserError | None:
        rows = {(item.id, item.caption) for item in inputs.items}
        return what_is_lost(self.folder, rows, recipe.differences, source=source, place=_INSTEAD, is_resumed=is_resumed)

    def makes_way(self, inputs: Inputs, recipe: Recipe) -> bool:
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
