"""One extraction: checked before anything is loaded, then under way."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from mmaudio.base.errors import UserError
from mmaudio.extraction.inputs import Inputs
from mmaudio.extraction.progress import FailureLimit
from mmaudio.extraction.reading import ReadingRules
from mmaudio.extraction.store_target import StoreTarget, StoreToExtend
from mmaudio.extraction.workspace import Manifest, Workspace, inputs_begun_with
from mmaudio.features.backend_plan import BackendPlan
from mmaudio.files.ownership import at_end_of_links
from mmaudio.store.format import Layout, layout_of
from mmaudio.store.writer import StoreRecipe


@dataclass(frozen=True)
class ExtractionKind:
    """What one of the scripts is about."""

    find: Callable[[], Inputs]  # what there is to extract
    tables: Sequence[Path]  # from these tables
    target: StoreTarget
    needs: Sequence[str]  # what the backend has to do
    rules: ReadingRules


@dataclass(frozen=True)
class ExtractionPlan:
    """A checked extraction, before anything of it was loaded or written."""

    stage: ExtractionKind
    backend: BackendPlan
    inputs: Inputs
    layout: Layout
    base: StoreToExtend | None
    rules: ReadingRules
    latent_dir: Path
    unlisted: Sequence[str] = ()  # ids that the extraction under way there was begun with and no table lists any more

    def recipe(self, weights: Mapping[str, str] | None) -> StoreRecipe:
        """How rows are made. Raises: UserError where the store that is added to was made otherwise."""
        made = asdict(self.rules) | {"weights": weights, "dtype": self.backend.dtype}
        recipe = StoreRecipe(self.inputs.kind, self.backend.spec, self.backend.name, self.layout, **made)
        if self.base is not None:
            self.base.check(recipe)
        return recipe

    def workspace(self, weights: Mapping[str, str] | None) -> Workspace:
        """Where it is under way. Raises: UserError as `recipe`, where that is another's, or where a store of other rows would be lost."""
        appends_to = self.base.record.rows_hash if self.base is not None else None
        inputs = (self.inputs.data_dir, len(self.inputs.items), self.inputs.hash)
        manifest = Manifest(self.recipe(weights), *inputs, appends_to, self.unlisted)
        work = Workspace(self.latent_dir, manifest)
        work.check()
        if self.base is None:
            source = " and ".join(map(str, self.stage.tables))
            self.stage.target.check_rows(self.inputs, manifest.recipe, source=source, is_resumed=work.was_final)
        return work


def plan_extraction(
    options: argparse.Namespace,
    stage: ExtractionKind,
    backend: BackendPlan,
    device: torch.device,
    inputs: Inputs,
    dtypes: Mapping[str, torch.dtype],
) -> ExtractionPlan:
    """Raises: UserError where the pieces do not go together, or with what is on disk."""
    latent_dir, folder = Path(options.latent_dir), stage.target.folder
    if at_end_of_links(folder) in (at_end_of_links(latent_dir), *at_end_of_links(latent_dir).parents):
        raise UserError(f"--latent_dir is {latent_dir}, which is the folder of the store or in it; name another")
    base = StoreToExtend.find(latent_dir, folder) if options.append else None
    if base is not None:
        inputs = inputs.without(frozenset(base.ids))
    begun = inputs_begun_with(latent_dir) or {}
    inputs = inputs.begun_with(begun) if begun else inputs
    listed = {item.id for item in inputs.items}
    layout, rules = layout_of(options.layout, inputs.kind, backend.spec, dtypes), stage.rules
    if rules.resize == "auto":
        rules = replace(rules, resize="device" if device.type == "cuda" else "host")
    unlisted = [row_id for row_id in begun if row_id not in listed]
    plan = ExtractionPlan(stage, backend, inputs, layout, base, rules, latent_dir, unlisted)
    plan.workspace(weights=None)
    if not inputs.items and (base is None or inputs.rejects):
        reasons = "; ".join(sorted({reject.reason for reject in inputs.rejects})[:3]) or "the table has no rows"
        raise UserError(f"none of the {inputs.num_seen} inputs can be used: {reasons}")
    return plan


@dataclass(frozen=True)
class Job:
    inputs: Inputs
    rules: ReadingRules
    recipe: StoreRecipe
    work: Workspace
    batch_size: int  # clips encoded at once on a GPU
    num_workers: int  # threads that read files
    limit: FailureLimit

    def check_failures(self, num_failed: int) -> None:
        """Raises: RejectsError if so many inputs that were listed with a file failed that it is to be given up."""
        self.limit.check(num_failed + len(self.inputs.rejects), self.inputs.num_seen)
