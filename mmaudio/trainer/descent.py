"""One step down the gradient: AdamW as the published system runs it (training.md section 4), over one backward pass or several.

Nothing here waits for the device: a step whose gradient is not finite is left out on the device itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.trainer.parallel import accumulating, is_shared, local, part, shared

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
    shared network it steps this process's elements (`Descent` hands it their gradients).
    """
    parameters = trained_parameters(network)
    stepped = [local(parameter) for parameter in parameters] if is_shared(parameters) else parameters
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
        index: {name: shared(value, parameters[index]) if name in moments else value for name, value in entry.items()}
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
        index: {name: part(value, parameters[index]) if value.dim() else value for name, value in entry.items()}
        for index, entry in saved["state"].items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def set_rate_(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


@dataclass(frozen=True)
class StepTaken:
    """Of one step: the norm of the whole gradient before clipping, and whether it was left out, both () on the device."""

    grad_norm: Tensor
    is_refused: Tensor


class Descent:
    """Steps a module's parameters by the gradients of losses.

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
        self._is_shared = is_shared(self._parameters)

    def step(self, losses: Iterable[Callable[[], Tensor]]) -> StepTaken:
        """Collective. Replace the gradients by those of the sum of some losses, computed one after another, and step.

        A gradient that is not finite changes nothing. It is not finite on all ranks as soon as one rank's loss is not.
        """
        for parameter in (*self._parameters, *self._stepped):
            parameter.grad = None
        calls = list(losses)
        for place, loss_of in enumerate(calls, start=1):
            with accumulating(self.module, is_last=place == len(calls)):
                _spoil_if_not_finite(loss_of() * (GRAD_SCALE if self.scaled else 1.0)).backward()
        grads = self._gradients()
        if self.scaled:
            torch._foreach_div_(grads, GRAD_SCALE)
        grad_norm = self._norm(grads)
        nn.utils.clip_grads_with_norm_(self._stepped, self.max_norm, grad_norm, foreach=True)
        is_refused = ~torch.isfinite(grad_norm)
        self.optimizer.grad_scale, self.optimizer.found_inf = None, is_refused.float()  # type: ignore[attr-defined] # fused AdamW reads both
        self.optimizer.step()
        return StepTaken(grad_norm, is_refused)

    def _gradients(self) -> list[Tensor]:
        """Of this process's elements, where the optimizer looks for them."""
        if self._is_shared:
            for stepped, parameter in zip(self._stepped, self._parameters, strict=True):
                assert parameter.grad is not None
                stepped.grad = local(parameter.grad)
        return [stepped.grad for stepped in self._stepped if stepped.grad is not None]

    def _norm(self, grads: Sequence[Tensor]) -> Tensor:
        norm = nn.utils.get_total_norm(grads, foreach=True)
        if not self._is_shared:
            return norm
        square = norm.square()
        dist.all_reduce(square)
        return square.sqrt()


def _spoil_if_not_finite(loss: Tensor) -> Tensor:
    """The loss; one that is not finite gets a gradient that is not either, which reaches every rank."""
    return loss * torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan)
