"""Solver: what is trained. A task of its own is a subclass, named by `solver=` in the settings.

Three methods make a task: `build_network`, `build_batches` and `loss`. All others have a default that may be replaced. None of them
has to know of signals or the state of a run, nor, but for `check`, of its folder: `Trainer` does.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmaudio.base.errors import Problems, UserError
from mmaudio.checkpoints.run_files import WeightsRecord
from mmaudio.distributed.collectives import barrier
from mmaudio.distributed.devices import pick_device
from mmaudio.distributed.ranks import Ranks
from mmaudio.files.atomic import check_writable
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.meters import Meters, Sum, Values
from mmaudio.trainer.model_settings import uses_amp, uses_compile
from mmaudio.trainer.optimizer import build_optimizer
from mmaudio.trainer.train_state import Stateful

Beat = Callable[[str, int], None]  # (what is being done, finished iterations): says that the process goes on
_NO_EPOCH = "stages are due every so many epochs, and nothing says how long one is; give updates_per_epoch=N"


@dataclass(frozen=True)
class Loss:
    """Losses of a batch, one per row, (rows,), and what else is to be averaged and logged, as the solver's `meters` has it."""

    loss_b: Tensor
    sums: Mapping[str, Sum] = field(default_factory=dict)


class Solver(ABC):
    """A task: its data, network, loss and optimizer, and what is averaged, recorded and checked. It holds nothing that changes.

    Attributes:
        best_metric: name of the value (`stage/name`) by which the best weights are kept, unless the settings name another; None keeps
            none. Smaller is better, but for what an added stage says is better the higher it is.
        meters: shape of each quantity that `loss` gives besides the loss.
        stale_keys: what older files may hold of a network that has no such tensors any more.
    """

    best_metric: str | None = None
    meters: Mapping[str, tuple[int, ...]] = {}
    stale_keys: Sequence[str] = ()

    def __init__(self, settings: TrainSettings, ranks: Ranks, device: torch.device, beat: Beat = lambda *_: None) -> None:
        self.settings, self.ranks, self.device, self.beat = settings, ranks, device, beat
        self.amp, self.compiles = uses_amp(settings, device), uses_compile(settings, device)
        self.rows_per_rank = settings.batch_size // ranks.world_size

    # ---- what every task says

    @abstractmethod
    def build_network(self) -> nn.Module:
        """What is trained, anew. Random numbers are seeded; moved to the device and shared out afterwards."""

    @abstractmethod
    def build_batches(self, stage: str, steps_done: int) -> Iterable[Any]:
        """Batches of this rank: for `train` without end, from this iteration on; for `valid` each row once.

        What has a `close` is closed after use.
        """

    @abstractmethod
    def loss(self, module: nn.Module, batch: Any, steps_done: int) -> Loss:
        """Losses of a batch. `module` is what `build_objective` made, shared out, so call it and none of its parts."""

    # ---- what a task may say

    @classmethod
    def check(cls, settings: TrainSettings, run_dir: Path, ranks: Ranks, problems: Problems) -> None:
        """Add a sentence for everything that would stop this run, before anything is built. Reads files, writes none."""
        problems.check(lambda: pick_device(settings.device, ranks))
        problems.check(lambda: check_writable(run_dir))
        by_epochs = any(stage.every for stage in (settings.valid, settings.evaluate, settings.generate))
        if by_epochs and settings.updates_per_epoch is None and cls.updates_per_epoch is Solver.updates_per_epoch:
            problems.add(_NO_EPOCH)
        if settings.batch_size % ranks.world_size:
            problems.add(f"batch_size is {settings.batch_size}; want a multiple of the {ranks.world_size} processes")

    @classmethod
    def validated(cls, settings: TrainSettings) -> tuple[str, ...]:  # noqa: ARG003 - for tasks
        """Names of the numbers that validation gives of a run with these settings, by any of which the best weights can be kept."""
        return ("loss", *(name for name, shape in cls.meters.items() if not shape))

    def open_data(self) -> None:  # noqa: B027 - a task may have nothing to open
        """Open what batches are made of, before the network is built."""

    def build_objective(self, network: nn.Module) -> nn.Module:
        """What computes the losses and has the network in it: by default the network."""
        return network

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """By default AdamW as the settings have it. One of your own has to be fused, and keep AdamW's moments."""
        settings = self.settings
        return build_optimizer(network, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, amp=self.amp)

    def restore_network(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A network with these weights. Raises: UserError where they are of another."""
        network = self.build_network()
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(f"the weights do not fit the network: {' '.join(str(error).split())}") from None
        return network

    def averaged(self, network: nn.Module) -> Mapping[str, Tensor]:
        """What running averages are kept of: by default everything the network's state dict holds."""
        return network.state_dict()

    def stateful(self) -> Mapping[str, Stateful]:
        """What else a checkpoint has to keep, by name; built in `open_data` or `build_network`."""
        return {}

    def record(self, steps_done: int) -> WeightsRecord:
        """What is kept beside weights of this run."""
        return WeightsRecord("", "", 0.0, "", steps_done, self.settings.name(), freeze=self.settings.freeze)

    def stages(self) -> Mapping[str, Callable[[int], Values]]:
        """What the task itself does between steps besides validation: `evaluate`, `generate`. Called on every rank."""
        return {}

    def updates_per_epoch(self) -> int:
        """Iterations of an epoch. Raises: UserError where neither settings nor data say."""
        if self.settings.updates_per_epoch is None:
            raise UserError(_NO_EPOCH)
        return self.settings.updates_per_epoch

    def micro_batches(self, batch: Any) -> Sequence[Any]:
        """A batch in parts that fit into memory, of at most `micro_batch` rows each. By default the whole of it."""
        return [batch]

    def names_of(self, steps_done: int) -> Sequence[str]:  # noqa: ARG002 - for tasks
        """What this rank's rows of an iteration are called in messages."""
        first = self.ranks.rank * self.rows_per_rank
        return [f"row {place}" for place in range(first, first + self.rows_per_rank)]

    def flops_per_row(self) -> float | None:
        """Operations of a step for a row of the batch, as far as they are known."""
        return None

    # ---- validation

    @torch.no_grad()
    def valid(self, objective: nn.Module, steps_done: int, progress: Callable[[], None]) -> Values:
        """Collective. Averages over the rows of `build_batches("valid", …)`: all of them, or batches until `valid.max_rows` are reached.

        Args:
            objective: what `build_objective` made, whole on this process.
            progress: called after every batch; where the run is asked to stop it raises, perhaps on some ranks alone.
        """
        meters = Meters({"loss": (), **self.meters}, self.device)
        rows_left = (self.settings.valid.max_rows or math.inf) / self.ranks.world_size
        with closed_after(self.build_batches("valid", steps_done)) as batches:
            for batch in batches:
                loss = self.checked_loss(objective, batch, steps_done)
                meters.add({"loss": Sum.of(loss.loss_b), **loss.sums})
                progress()
                rows_left -= len(loss.loss_b)
                if rows_left <= 0:
                    break
        barrier()  # where a rank that was asked to stop is heard
        return meters.pop()

    def checked_loss(self, module: nn.Module, batch: Any, steps_done: int) -> Loss:
        """As `loss`. Raises: UserError for a task whose losses are not one per row."""
        loss = self.loss(module, batch, steps_done)
        if not isinstance(loss, Loss) or loss.loss_b.dim() != 1:
            found = f"losses of shape {tuple(loss.loss_b.shape)}" if isinstance(loss, Loss) else f"a {type(loss).__name__}"
            raise UserError(f"{type(self).__name__}.loss gives {found}; want Loss(one loss per row, of shape (rows,))")
        return loss


@contextmanager
def closed_after(batches: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """Go through batches for the block; what can be closed, because it reads ahead, is closed at its end."""
    going = iter(batches)
    try:
        yield going
    finally:
        close = getattr(going, "close", None)
        if close is not None:
            close()


def solver_class(target: str) -> type[Solver]:
    """The class that `solver.target` names. Raises: UserError where there is none, or it is no Solver."""
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"solver.target is {target!r}, which cannot be imported ({error}); want MODULE.CLASS, its folder on PYTHONPATH"
        ) from None
    if not (isinstance(found, type) and issubclass(found, Solver)):
        raise UserError(f"solver.target is {target!r}, which is no subclass of mmaudio.trainer.solver.Solver")
    if found.__abstractmethods__:
        missing, wanted = (", ".join(name for name in vars(Solver) if name in kind.__abstractmethods__) for kind in (found, Solver))
        raise UserError(f"solver.target is {target!r}, which has no {missing}; a task says {wanted}")
    return found
