"""The training objective: one function for training and validation. Axes: b batch, n latent token, c latent channel."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from mmaudio.base.draws import Draws
from mmaudio.flow.nulls import NullSettings, ToldConditions
from mmaudio.flow.path import point_on_path
from mmaudio.flow.times import logit_normal_times


class VelocityNetwork(Protocol):
    """What the loss needs of a network: its normalisation, its conditions with nulls, and its velocity."""

    def normalize(self, x: Tensor) -> Tensor: ...

    def told_conditions(self, clip_f: Tensor, sync_f: Tensor, text_f: Tensor, told: ToldConditions) -> Any: ...

    def predict_flow(self, latent: Tensor, t: Tensor, conditions: Any) -> Tensor: ...


@dataclass(frozen=True)
class FlowBatch:
    """Stored features of a batch: posterior (b, N, c), conditions (any, tokens, width), and which rows of these are told to whom."""

    a_mean: Tensor
    a_std: Tensor
    clip_features: Tensor
    sync_features: Tensor
    text_features: Tensor
    told: ToldConditions


@dataclass(frozen=True)
class FlowDraws:
    """Random numbers of one step: posterior and path noise (b, N, c), time normal (b,)."""

    n1: Tensor
    z: Tensor
    x0: Tensor


@dataclass(frozen=True)
class FlowSettings:
    """Constants of the objective; defaults are the published ones."""

    time_mean: float = 0.0
    time_scale: float = 1.0
    min_sigma: float = 0.0
    nulls: NullSettings = field(default_factory=NullSettings)


@dataclass(frozen=True)
class FlowLoss:
    """Loss and time of each sample, (b,)."""

    loss_b: Tensor
    t_b: Tensor


def draw_flow(draws: Draws, num_latents: int, channels: int) -> FlowDraws:
    """The random numbers of one step for the items `draws` stands for."""
    return FlowDraws(
        n1=draws.normals("posterior", num_latents, channels),
        z=draws.normals("time"),
        x0=draws.normals("noise", num_latents, channels),
    )


def flow_loss(network: VelocityNetwork, batch: FlowBatch, draws: FlowDraws, settings: FlowSettings) -> FlowLoss:
    """Mean squared error of the predicted velocity, per sample (training.md sections 1 and 3; Lipman et al. 2023, eq. 23)."""
    x1_bnc = network.normalize(batch.a_mean + batch.a_std * draws.n1)
    t_b = logit_normal_times(draws.z, settings.time_mean, settings.time_scale)
    point = point_on_path(draws.x0, x1_bnc, t_b, settings.min_sigma)
    conditions = network.told_conditions(batch.clip_features, batch.sync_features, batch.text_features, batch.told)
    predicted_bnc = network.predict_flow(point.xt_bnc, t_b.to(x1_bnc.dtype), conditions)
    return FlowLoss(loss_b=(predicted_bnc.to(point.v_bnc.dtype) - point.v_bnc).square().mean(dim=(1, 2)), t_b=t_b)
