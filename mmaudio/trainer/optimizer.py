"""AdamW, clipping, the step, and steps that are skipped because their gradient is not finite.

Nothing here waits for the device: a step whose gradient is not finite is left out on the device itself.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmaudio.base.errors import UserError, listed
from mmaudio.distributed.collectives import gather_objects
from mmaudio.trainer.parallel import as_sharded, is_sharded, local_part, local_tensor

log = logging.getLogger(__name__)
BETAS = (0.9, 0.95)
EPS_AMP, EPS = 1e-6, 1e-8
GRAD_SCALE = 2048.0  # what enable_grad_scaler multiplies the loss by; bf16 has float32's range, so it never has to change


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Those that take a gradient, in module order, which is the optimizer's."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def build_optimizer(network: nn.Module, *, learning_rate: float, weight_decay: float, amp: bool) -> torch.optim.AdamW:
    """One group of every trainable parameter in module order, decay on all of them.

    State is saved by index in that group: index i is the i-th trainable parameter, as in the published files. Where a run
    freezes some, those have no index and later ones move up, so its state fits only a run that freezes the same ones. Of a
    shared network it steps this process's elements (`OptimizerStep` hands it their gradients).
    """
    parameters = trained_parameters(network)
    stepped = [local_tensor(parameter) for parameter in parameters] if is_sharded(parameters) else parameters
    optimizer = torch.optim.AdamW(
        stepped, lr=learning_rate, betas=BETAS, eps=EPS_AMP if amp else EPS, weight_decay=weight_decay, fused=True
    )
    optimizer.param_groups[0]["initial_lr"] = learning_rate  # schedulers of the published system read it
    return optimizer


def check_optimizer(saved: Mapping[str, Any], shapes: Sequence[torch.Size]) -> None:
    """Whether a saved optimizer is one of parameters of these shapes, in this order.

    Raises: UserError where it is not: torch itself would look at their number alone.
    """
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= saved.keys():
        raise UserError("the checkpoint holds no optimizer state")
    num_saved = sum(len(group["params"]) for group in saved["param_groups"])
    if num_saved != len(shapes):
        raise UserError(f"the checkpoint's optimizer holds {num_saved} parameters, this run trains {len(shapes)}")
    if missing := [index for index in range(len(shapes)) if index not in saved["state"]]:
        raise UserError(f"the checkpoint's optimizer holds no moments of {len(missing)} parameters, the first is number {missing[0]}")
    for index, moments in saved["state"].items():
        if moments["exp_avg"].shape != shapes[index]:
            found, want = tuple(moments["exp_avg"].shape), tuple(shapes[index])
            raise UserError(f"parameter {index} of the checkpoint's optimizer is {found}, that of this run {want}")


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> dict[str, Any]:
    """The state to save, its moments as shares where the parameters are. The live tensors themselves."""
    saved = optimizer.state_dict()
    moments = ("exp_avg", "exp_avg_sq")
    state = {
        index: {name: as_sharded(value, parameters[index]) if name in moments else value for name, value in entry.items()}
        for index, entry in saved["state"].items()
    }
    return {**saved, "state": state}


def load_optimizer_(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], parameters: Sequence[Tensor]) -> None:
    """Continue with a saved optimizer's moments; rates and decays stay those of today's settings.

    Args:
        parameters: the trained ones, of which the optimizer may step this process's elements alone.
    Raises: UserError where it is the state of other parameters.
    """
    check_optimizer(saved, [parameter.shape for parameter in parameters])
    state = {
        index: {name: local_part(value, parameters[index]) if value.dim() else value for name, value in entry.items()}
        for index, entry in saved["state"].items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@dataclass(frozen=True)
class StepResult:
    """Of one step: the norm of the whole gradient before clipping, and whether it was left out, both () on the device."""

    grad_norm: Tensor
    is_skipped: Tensor


class OptimizerStep:
    """Steps a module's parameters by the gradients of losses: `zero_grad`, `backward` of each micro batch's loss, `step`.

    Args:
        module: what computes the losses, shared out among the ranks or not.
        optimizer: of its trainable parameters, or of this process's elements of them, in the same order.
        max_norm: of the whole gradient; a longer one is shortened to it.
        scaled: whether losses are scaled up for the backward pass, and gradients down before they are clipped.
    Raises: UserError for an optimizer that cannot leave a step out on the device.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float, *, scaled: bool = False) -> None:
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            raise UserError(
                f"{type(optimizer).__name__} cannot leave out a step whose gradient is not finite; want one that is made with fused=True"
            )
        self.module, self.optimizer, self.max_norm, self.scaled = module, optimizer, max_norm, scaled
        self._parameters = trained_parameters(module)
        self._stepped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._is_shared = is_sharded(self._parameters)

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for parameter in (*self._parameters, *self._stepped):
            parameter.grad = None

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, (). One that is not finite gets a gradient that is not either, which reaches every rank."""
        scaled = loss * (GRAD_SCALE if self.scaled else 1.0)
        (scaled * torch.where(torch.isfinite(scaled.detach()), 1.0, torch.nan)).backward()

    def step(self) -> StepResult:
        """Collective. Clip the gradients and step by them. A gradient that is not finite changes nothing."""
        grads = self._gradients()
        if self.scaled:
            torch._foreach_div_(grads, GRAD_SCALE)
        grad_norm = self._norm(grads)
        nn.utils.clip_grads_with_norm_(self._stepped, self.max_norm, grad_norm, foreach=True)
        is_skipped = ~torch.isfinite(grad_norm)
        self.optimizer.grad_scale, self.optimizer.found_inf = None, is_skipped.float()  # type: ignore[attr-defined] # fused AdamW reads both
        self.optimizer.step()
        return StepResult(grad_norm, is_skipped)

    def _gradients(self) -> list[Tensor]:
        """Of this process's elements, where the optimizer looks for them."""
        if self._is_shared:
            for stepped, parameter in zip(self._stepped, self._parameters, strict=True):
                assert parameter.grad is not None
                stepped.grad = local_tensor(parameter.grad)
        return [stepped.grad for stepped in self._stepped if stepped.grad is not None]

    def _norm(self, grads: Sequence[Tensor]) -> Tensor:
        norm = nn.utils.get_total_norm(grads, foreach=True)
        if not self._is_shared:
            return norm
        square = norm.square()
        dist.all_reduce(square)
        return square.sqrt()


# ---- Skipped steps: remembered on the device, and warned of when the host next looks


class NonFiniteError(RuntimeError):
    """More steps without a finite gradient than the run may leave out. None of them was taken, and nothing was saved since."""


class SkippedSteps:
    """Counts skipped steps, and keeps of the first one its number and the rows to blame, until `look` reads them.

    Args:
        num_rows: of this rank's part of a batch.
        max_skipped: how many steps may be left out, all looks together.
    """

    def __init__(self, num_rows: int, max_skipped: int, device: torch.device) -> None:
        self.max_skipped, self.num_skipped = max_skipped, 0
        self._count, self._first = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._is_bad = torch.zeros(num_rows, dtype=torch.bool, device=device)

    def note(self, is_skipped: Tensor, loss_b: Tensor, steps_done: int) -> None:
        """Take in a step, without waiting for the device.

        Args:
            is_skipped: (), the same on all ranks.
            loss_b: this rank's losses, one per row.
            steps_done: iterations finished before it.
        """
        is_first = is_skipped & (self._count == 0)
        self._first.copy_(torch.where(is_first, steps_done, self._first))
        self._is_bad.copy_(torch.where(is_first, ~torch.isfinite(loss_b), self._is_bad))
        self._count.add_(is_skipped)

    def look(self, names_of: Callable[[int], Sequence[str]]) -> None:
        """Collective, and waits for the device. Warn of steps that were left out since the last look.

        Args:
            names_of: ids of this rank's rows of an iteration.
        Raises: NonFiniteError, on every rank, where they have become too many.
        """
        count = int(self._count)  # the same on all ranks
        if not count:
            return
        step, names = int(self._first), list(names_of(int(self._first)))
        bad = [name for name, is_bad in zip(names, self._is_bad.tolist(), strict=True) if is_bad]
        gathered: list[tuple[list[str], list[str]]] = gather_objects((bad, names))
        self._count.zero_()
        self.num_skipped += count
        sentence = _sentence(step, gathered)
        if self.num_skipped > self.max_skipped:
            raise NonFiniteError(
                f"{sentence}. The step was not taken and nothing was saved since: check these rows, lower learning_rate, or set"
                " amp=False, and run the command again to go on from the last checkpoint"
            )
        log.warning("%s; %d steps are left out so far, of %d that may be", sentence, self.num_skipped, self.max_skipped)


def _sentence(step: int, gathered: Sequence[tuple[list[str], list[str]]]) -> str:
    bad_ids = [row_id for found, _ in gathered for row_id in found]
    rows = bad_ids or [row_id for _, everything in gathered for row_id in everything]
    return f"the {'loss' if bad_ids else 'gradient'} of iteration {step} is not finite; rows: {listed(rows)}"
