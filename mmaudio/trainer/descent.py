"""AdamW as the published system runs it, and its state in the order of the parameter manifest (training.md section 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError

BETAS = (0.9, 0.95)
EPS_AMP, EPS = 1e-6, 1e-8
GRAD_SCALE = 2048.0  # what enable_grad_scaler multiplies the loss by; bf16 has float32's range, so it never has to change


def build_optimizer(network: nn.Module, *, learning_rate: float, weight_decay: float, amp: bool) -> torch.optim.AdamW:
    """One group of every trainable parameter in module order, decay on all of them.

    State is saved by index in that group: index i is the i-th trainable parameter, as in the published files. Where a run
    freezes some, those have no index and later ones move up, so its state fits only a run that freezes the same ones.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = parameters[0].device.type in ("cuda", "cpu")
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=BETAS, eps=EPS_AMP if amp else EPS, weight_decay=weight_decay, fused=fused
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


def load_optimizer_(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Continue with a saved optimizer's moments; rates and decays stay those of today's settings.

    Raises: UserError where it is the state of other parameters.
    """
    check_optimizer(saved, [parameter.shape for group in optimizer.param_groups for parameter in group["params"]])
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})


def set_rate_(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def backward_(loss: Tensor, optimizer: torch.optim.Optimizer, max_norm: float, *, scaled: bool) -> Tensor:
    """Replace the gradients by those of `loss`, clipped to a global norm. Returns the norm before clipping.

    Args:
        scaled: whether the loss is scaled up for the backward pass, and the gradients down before they are clipped.
    """
    optimizer.zero_grad(set_to_none=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    (loss * GRAD_SCALE if scaled else loss).backward()
    if scaled:
        torch._foreach_div_([parameter.grad for parameter in parameters], GRAD_SCALE)
    return nn.utils.clip_grad_norm_(parameters, max_norm)
