"""What is trained, as the engine sees it. A task of its own is a subclass of `Solver`, named by `solver=` in the settings.

Three methods make a task: `build_network`, `build_batches` and `loss`. All others have a default that may be replaced, and
none of them has to know of ranks, files or signals: `engine.train` does.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmaudio.base.errors import Problems, UserError
from mmaudio.checkpoints.run_files import RunFiles, WeightsRecord
from mmaudio.distributed.collectives import barrier, collective_timeout
from mmaudio.distributed.devices import pick_device
from mmaudio.distributed.ranks import Ranks
from mmaudio.files.atomic import check_writable
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.meters import Meters, Sum, Values
from mmaudio.trainer.model_settings import uses_amp, uses_compile
from mmaudio.trainer.optimizer import SkippedSteps, build_optimizer, set_lr_
from mmaudio.trainer.parallel import check_room, full_tensor
from mmaudio.trainer.resume import begin_or_resume
from mmaudio.trainer.signals import StopSignals
from mmaudio.trainer.stages import Missed, Stage
from mmaudio.trainer.train_state import Stateful, TrainState

Beat = Callable[[str, int], None]  # (what is being done, finished iterations): says that the process goes on
_NO_EPOCH = "stages are due every so many epochs, and nothing says how long one is; give updates_per_epoch=N"


@dataclass(frozen=True)
class Loss:
    """Losses of a batch, one per row, (rows,), and what else is to be averaged and logged, as the solver's `meters` has it."""

    loss_b: Tensor
    sums: Mapping[str, Sum] = field(default_factory=dict)


class Solver(ABC):
    """One run of a task. Subclasses say what it learns; `run` is all that changes meanwhile.

    Attributes:
        best_metric: name of the value (`stage/name`) by which the best weights are kept, unless the settings name another; None keeps
            none. Smaller is better, but for what an added stage says is better the higher it is.
        meters: shape of each quantity that `loss` gives besides the loss.
        stale_keys: what older files may hold of a network that has no such tensors any more.
    """

    best_metric: str | None = None
    meters: Mapping[str, tuple[int, ...]] = {}
    stale_keys: Sequence[str] = ()

    def __init__(
        self,
        settings: TrainSettings,
        run_dir: Path,
        ranks: Ranks,
        device: torch.device,
        beat: Beat = lambda *_: None,
        added: Sequence[Stage] = (),
    ) -> None:
        """Collective. Build the run, continuing what its folder holds.

        Args:
            added: stages that training itself needs nothing of, such as sound and scores; a function is one as a `PlainStage`.
        """
        self.settings, self.ranks, self.device, self.beat, self.added = settings, ranks, device, beat, added
        self.files = RunFiles(run_dir, settings.name())
        self.amp, self.compiles = uses_amp(settings, device), uses_compile(settings, device)
        self.rows_per_rank = settings.batch_size // ranks.world_size
        self.stop, self.missed = StopSignals(collective_timeout(settings.hang_timeout_s)), Missed()
        self.open_data()
        self.run: TrainState = begin_or_resume(self)
        self.refusals = SkippedSteps(self.rows_per_rank, settings.max_skipped_steps, device)

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
        """What is done between steps, in order: `valid`, `evaluate`, `generate`, as far as the task has them. Called on every rank."""
        return {"valid": self.valid, **{stage.name: partial(stage, self) for stage in self.added}}

    def judged_by(self) -> tuple[str | None, bool]:
        """Name of the value by which the best weights are kept, and whether higher is better."""
        name = self.settings.best_metric or self.best_metric
        return name, any(name == f"{stage.name}/{key}" for stage in self.added for key in stage.higher_is_better)

    def updates_per_epoch(self) -> int:
        """Iterations of an epoch. Raises: UserError where neither settings nor data say."""
        if self.settings.updates_per_epoch is None:
            raise UserError(_NO_EPOCH)
        return self.settings.updates_per_epoch

    def micro_batches(self, batch: Any) -> Sequence[Any]:
        """A batch in parts that fit into memory, of at most `micro_batch` rows each."""
        return [batch]

    def names_of(self, steps_done: int) -> Sequence[str]:  # noqa: ARG002 - for tasks
        """What this rank's rows of an iteration are called in messages."""
        first = self.ranks.rank * self.rows_per_rank
        return [f"row {place}" for place in range(first, first + self.rows_per_rank)]

    def flops_per_row(self) -> float | None:
        """Operations of a step for a row of the batch, as far as they are known."""
        return None

    # ---- one step, and one validation

    def run_step(self, batch: Any, steps_done: int) -> dict[str, Sum]:
        """Collective. One iteration; `steps_done` are finished before it. A step whose gradient is not finite changes no weight."""
        run, rate, found = self.run, self.run.schedule.learning_rate(steps_done), list[Loss]()
        set_lr_(run.optimizer, rate)

        def loss_of(part: Any) -> Tensor:
            found.append(self._checked_loss(run.module, part, steps_done))
            return found[-1].loss_b.sum() / self.rows_per_rank

        taken = run.descent.step([partial(loss_of, part) for part in self.micro_batches(batch)])
        loss_b = torch.cat([each.loss_b.detach() for each in found])
        self.refusals.note(taken.is_refused, loss_b, steps_done)
        if run.ema and steps_done >= self.settings.ema.start:
            run.ema.follow()
        sums = {"loss": Sum.of(loss_b), "grad_norm": Sum.of(taken.grad_norm[None]), **_joined([each.sums for each in found])}
        rate_sum = Sum.of(torch.full((1,), rate, device=self.device))
        return {name: each.unless(taken.is_refused) for name, each in sums.items()} | {"lr": rate_sum}

    def _checked_loss(self, module: nn.Module, batch: Any, steps_done: int) -> Loss:
        loss = self.loss(module, batch, steps_done)
        if not isinstance(loss, Loss) or loss.loss_b.dim() != 1:
            found = f"losses of shape {tuple(loss.loss_b.shape)}" if isinstance(loss, Loss) else f"a {type(loss).__name__}"
            raise UserError(f"{type(self).__name__}.loss gives {found}; want Loss(one loss per row, of shape (rows,))")
        return loss

    @torch.no_grad()
    def valid(self, steps_done: int) -> Values:
        """Collective. Averages over the rows of `build_batches("valid", …)`: all of them, or batches until `valid.max_rows` are reached."""
        meters, objective = Meters({"loss": (), **self.meters}, self.device), self.whole_objective()
        rows_left = (self.settings.valid.max_rows or math.inf) / self.ranks.world_size
        with closed_after(self.build_batches("valid", steps_done)) as batches:
            for batch in batches:
                loss = self._checked_loss(objective, batch, steps_done)
                meters.add({"loss": Sum.of(loss.loss_b), **loss.sums})
                self.beat("valid", steps_done)
                rows_left -= len(loss.loss_b)
                if rows_left <= 0:
                    break
        return meters.pop()

    def whole_network(self) -> nn.Module:
        """Collective. The network as one process can use it alone: of a shared one, a copy of its own."""
        network = self.run.network
        if not self.run.is_shared:
            return network
        tensors = network.state_dict()
        check_room(tensors.values(), self.device)
        barrier()  # a rank that has no room for it is heard here, and not waited for in the midst of gathering
        return self.restore_network({name: full_tensor(tensor) for name, tensor in tensors.items()}).to(self.device)

    def whole_objective(self) -> nn.Module:
        """Collective. The objective of `whole_network`."""
        return self.build_objective(self.whole_network()) if self.run.is_shared else self.run.objective


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


def _joined(parts: Sequence[Mapping[str, Sum]]) -> dict[str, Sum]:
    """The sums of all parts of a batch together."""
    return {name: _sum([part[name] for part in parts]) for name in parts[0]}


def _sum(parts: Sequence[Sum]) -> Sum:
    first, *others = parts
    for each in others:
        first = Sum(first.total + each.total, first.count + each.count)
    return first


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
