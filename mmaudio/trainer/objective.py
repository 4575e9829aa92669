"""The training objective as a module: what is compiled, what runs in bf16, and whose gradients the ranks average."""

import logging
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmaudio.base.compiling import Compiled
from mmaudio.base.draws import Draws
from mmaudio.base.ranks import Ranks
from mmaudio.base.settings import BaseSettings, TrainSettings
from mmaudio.batches import Batch
from mmaudio.flow.loss import FlowBatch, FlowDraws, FlowSettings, flow_loss
from mmaudio.flow.nulls import NullSettings, choose_told, draw_nulls
from mmaudio.network import FlowTransformer, find_variant

log = logging.getLogger(__name__)


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


def flow_batch(batch: Batch, chance: Draws, nulls: NullSettings, device: torch.device) -> FlowBatch:
    """What the objective needs of a batch, on the device. Who is told what is decided on the CPU, where nothing has to wait.

    Args:
        chance: of the rows of the batch, on the CPU.
    """
    told = choose_told(batch.video_exist, batch.text_exist, draw_nulls(chance), nulls)
    on_device = batch.to(device)
    return FlowBatch(
        a_mean=on_device.a_mean,
        a_std=on_device.a_std,
        clip_features=on_device.clip_features,
        sync_features=on_device.sync_features,
        text_features=on_device.text_features,
        told=told.to(device),
    )


def uses_amp(settings: BaseSettings, device: torch.device) -> bool:
    """Whether to run in bf16: as asked, or where the device has units for it."""
    has_units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.amp is True and not has_units:
        log.warning("amp=True: %s has no bf16 units, so this is slower than amp=False", device)
    return has_units if settings.amp == "auto" else settings.amp is True


def uses_compile(settings: BaseSettings, device: torch.device) -> bool:
    """Whether to compile: as asked, or on CUDA."""
    if settings.compile is True and device.type != "cuda":
        log.warning("compile=True: on %s compiling takes longer than it saves in a short run", device)
    return device.type == "cuda" if settings.compile == "auto" else settings.compile is True


def spread(objective: FlowObjective, ranks: Ranks, *, compiled: bool) -> nn.Module:
    """Collective. The objective, compiled if asked, its gradients averaged over all ranks."""
    module: nn.Module = Compiled(objective) if compiled else objective
    if ranks.world_size == 1:
        return module
    return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)


def set_backend_flags(settings: BaseSettings) -> None:
    """Process-wide choices of arithmetic: TF32 for what is not in bf16, and cuDNN's search for the fastest kernel."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark
