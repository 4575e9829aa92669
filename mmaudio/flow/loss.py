"""Path, times, loss: one function for training and validation."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from mmaudio.base.rng import CounterRng
from mmaudio.flow.guidance import ConditionDropout, PresentConditions

# ---- The straight path from noise to data. Axes: b batch, n token, c channel


@dataclass(frozen=True)
class PathPoint:
    """A point on the path and the velocity there, both (batch, tokens, channels)."""

    xt_bnc: Tensor
    v_bnc: Tensor


def point_on_path(x0_bnc: Tensor, x1_bnc: Tensor, t_b: Tensor, min_sigma: float = 0.0) -> PathPoint:
    """Place each item on the straight line from noise to data.

    Args:
        x0_bnc: unit normal noise, (batch, tokens, channels).
        x1_bnc: normalised latents, same shape.
        t_b: times in [0, 1]; 0 is noise, 1 is data.
        min_sigma: noise left at t = 1.
    Returns: the point and its velocity; no input is changed.
    Raises: ValueError if `t_b` is not one time per item.
    Source: Lipman et al. 2023 (arXiv 2210.02747), eq. 22.
    """
    if t_b.shape != x1_bnc.shape[:1]:
        raise ValueError(f"t_b has shape {tuple(t_b.shape)}; want ({x1_bnc.shape[0]},), one time per item")
    t_b11 = t_b[:, None, None]
    keep = 1.0 - min_sigma
    return PathPoint(xt_bnc=(1 - keep * t_b11) * x0_bnc + t_b11 * x1_bnc, v_bnc=x1_bnc - keep * x0_bnc)


# ---- Which times are trained, and the loss by time

NUM_TIME_BINS = 25


def logit_normal_times(z_b: Tensor, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    """Times in (0, 1) from standard normals: sigmoid(scale · z + mean) (Esser et al. 2024, arXiv 2403.03206, eq. 19)."""
    return torch.sigmoid(scale * z_b + mean)


@dataclass(frozen=True)
class BinnedLoss:
    """Sums and counts of per-sample losses in equal bins of time, each (NUM_TIME_BINS,) float64."""

    total: Tensor
    count: Tensor


def bin_by_time(loss_b: Tensor, t_b: Tensor) -> BinnedLoss:
    """Sort per-sample losses into bins by their time; a time that rounds to 1 falls in the last bin."""
    which = (t_b.double() * NUM_TIME_BINS).floor().long().clamp_(0, NUM_TIME_BINS - 1)
    zeros = torch.zeros(NUM_TIME_BINS, dtype=torch.float64, device=loss_b.device)
    return BinnedLoss(zeros.index_add(0, which, loss_b.double()), zeros.index_add(0, which, torch.ones_like(loss_b, dtype=torch.float64)))


# ---- The loss


class VelocityNetwork(Protocol):
    """What the loss needs of a network: its normalisation, its conditions with nulls, and its velocity."""

    def normalize(self, x: Tensor) -> Tensor: ...

    def present_conditions(self, clip_f: Tensor, sync_f: Tensor, text_f: Tensor, present: PresentConditions) -> Any: ...

    def predict_flow(self, latent: Tensor, t: Tensor, conditions: Any) -> Tensor: ...


@dataclass(frozen=True)
class FlowBatch:
    """Stored features of a batch: posterior (b, N, c), conditions (any, tokens, width), and which rows of these are told to whom."""

    a_mean: Tensor
    a_std: Tensor
    clip_features: Tensor
    sync_features: Tensor
    text_features: Tensor
    present: PresentConditions


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
    nulls: ConditionDropout = field(default_factory=ConditionDropout)


@dataclass(frozen=True)
class FlowLoss:
    """Loss and time of each sample, (b,)."""

    loss_b: Tensor
    t_b: Tensor


def draw_flow(draws: CounterRng, num_latents: int, channels: int) -> FlowDraws:
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
    conditions = network.present_conditions(batch.clip_features, batch.sync_features, batch.text_features, batch.present)
    predicted_bnc = network.predict_flow(point.xt_bnc, t_b.to(x1_bnc.dtype), conditions)
    return FlowLoss(loss_b=(predicted_bnc.to(point.v_bnc.dtype) - point.v_bnc).square().mean(dim=(1, 2)), t_b=t_b)
