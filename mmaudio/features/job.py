"""One extraction: what goes in, how it is read and made, and where it is under way."""

from dataclasses import dataclass

from mmaudio.features.failure_limit import FailureLimit
from mmaudio.features.inputs import Inputs
from mmaudio.features.reading import ReadingRules
from mmaudio.features.workspace import Workspace
from mmaudio.store.publish import Recipe


@dataclass(frozen=True)
class Job:
    inputs: Inputs
    rules: ReadingRules
    recipe: Recipe
    work: Workspace
    batch_size: int  # clips encoded at once on a GPU
    num_workers: int  # threads that read files
    limit: FailureLimit

    def check_failures(self, num_failed: int) -> None:
        """Raises: RejectsError if so many inputs that were listed with a file failed that it is to be given up."""
        self.limit.check(num_failed + len(self.inputs.rejects), self.inputs.num_seen)
