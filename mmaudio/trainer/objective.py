"""The training objective as a module: what runs in bf16, and whose gradients the ranks average."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from mmaudio.base.settings import TrainSettings
from mmaudio.flow.loss import FlowBatch, FlowDraws, FlowSettings, flow_loss
from mmaudio.flow.nulls import NullSettings
from mmaudio.network import FlowTransformer, find_variant


class FlowObjective(nn.Module):
    """The flow loss of a batch. It calls more of the network than its forward, so the loss is the module.

    Args:
        amp: whether it runs under bf16 autocast.
    """

    def __init__(self, network: FlowTransformer, settings: FlowSettings, *, amp: bool) -> None:
        super().__init__()
        self.network, self.settings, self.amp = network, settings, amp

    def forward(self, batch: FlowBatch, draws: FlowDraws) -> tuple[Tensor, Tensor]:
        """Loss and time of each sample, (batch,) float32. The draws come in as tensors, so that a new step compiles nothing anew."""
        with self._precision(batch.a_mean.device):
            loss = flow_loss(self.network, batch, draws, self.settings)
        return loss.loss_b, loss.t_b

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.amp)


def flow_settings(settings: TrainSettings) -> FlowSettings:
    """The constants of the objective, as the settings name them, or where they do not, as the variant has them."""
    sampling, variant = settings.sampling, find_variant(settings.model)
    nulls = NullSettings(settings.null_condition_probability, settings.null_sampling or variant.null_sampling, settings.drop_conditions)
    return FlowSettings(sampling.mean, sampling.scale, sampling.min_sigma, nulls)
