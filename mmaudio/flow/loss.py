"""The training objective: one function for training and validation. Axes: b batch, n latent token, c latent channel."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmaudio.base.draws import Draws
from mmaudio.flow.path import point_on_path
from mmaudio.flow.times import logit_normal_times


class VelocityNetwork(Protocol):
    """What the loss needs of a network: its velocity, its normalisation, and its null features."""

    @property
    def empty_clip_feat(self) -> Tensor: ...

    @property
    def empty_sync_feat(self) -> Tensor: ...

    @property
    def empty_string_feat(self) -> Tensor: ...

    def __call__(self, latent: Tensor, clip_f: Tensor, sync_f: Tensor, text_f: Tensor, t: Tensor) -> Tensor: ...

    def normalize(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FlowBatch:
    """Stored features of a batch: posterior (b, N, c), conditions (b, tokens, width), which conditions exist (b,) bool."""

    a_mean: Tensor
    a_std: Tensor
    clip_features: Tensor
    sync_features: Tensor
    text_features: Tensor
    video_exist: Tensor
    text_exist: Tensor


@dataclass(frozen=True)
class FlowDraws:
    """Every random number of one step: posterior and path noise (b, N, c), time normal and dropout uniforms (b,)."""

    n1: Tensor
    z: Tensor
    x0: Tensor
    u_video: Tensor
    u_text: Tensor


@dataclass(frozen=True)
class FlowSettings:
    """Constants of the objective; defaults are the published ones."""

    time_mean: float = 0.0
    time_scale: float = 1.0
    min_sigma: float = 0.0
    null_probability: float = 0.1


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
        u_video=draws.uniforms("drop_video"),
        u_text=draws.uniforms("drop_text"),
    )


def conditions_with_nulls(
    network: VelocityNetwork, batch: FlowBatch, draws: FlowDraws, probability: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip, sync and text features, null where a row has none or drops them for guidance (Ho and Salimans 2022).

    Clip and sync share one decision per row.
    """
    no_video = (~batch.video_exist | (draws.u_video < probability))[:, None, None]
    no_text = (~batch.text_exist | (draws.u_text < probability))[:, None, None]
    return (
        torch.where(no_video, network.empty_clip_feat, batch.clip_features),
        torch.where(no_video, network.empty_sync_feat, batch.sync_features),
        torch.where(no_text, network.empty_string_feat, batch.text_features),
    )


def flow_loss(network: VelocityNetwork, batch: FlowBatch, draws: FlowDraws, settings: FlowSettings) -> FlowLoss:
    """Mean squared error of the predicted velocity, per sample (training.md sections 1 and 3; Lipman et al. 2023, eq. 23)."""
    x1_bnc = network.normalize(batch.a_mean + batch.a_std * draws.n1)
    t_b = logit_normal_times(draws.z, settings.time_mean, settings.time_scale)
    point = point_on_path(draws.x0, x1_bnc, t_b, settings.min_sigma)
    clip, sync, text = conditions_with_nulls(network, batch, draws, settings.null_probability)
    predicted_bnc = network(point.xt_bnc, clip, sync, text, t_b)
    return FlowLoss(loss_b=(predicted_bnc.float() - point.v_bnc).square().mean(dim=(1, 2)), t_b=t_b)
