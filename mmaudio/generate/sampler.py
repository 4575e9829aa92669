"""Conditions to latents: noise of each item's own, guidance, and a solver. Axes: b batch, n latent token, c channel."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.draws import Draws, text_item
from mmaudio.flow.guidance import guided
from mmaudio.flow.nulls import Told, ToldConditions
from mmaudio.flow.ode import integrate
from mmaudio.network import Conditions, FlowTransformer


@dataclass(frozen=True)
class SampleSettings:
    """How to sample; defaults are the published ones."""

    num_steps: int = 25
    cfg_strength: float = 4.5
    method: str = "euler"
    min_sigma: float = 0.0
    seed: int = 42


@dataclass(frozen=True)
class ConditionBatch:
    """Features to sample from: one id a row, text (b, 77, width), and video (b, tokens, width) or None for no video.

    `negative_text` (1 or b, 77, width) replaces the empty caption in guidance. `video_exist` (b,) bool marks the rows that
    have a video where not all have; None means all.
    """

    ids: list[str]
    text: Tensor
    clip: Tensor | None = None
    sync: Tensor | None = None
    negative_text: Tensor | None = None
    video_exist: Tensor | None = None


@torch.inference_mode()
def sample_latents(network: FlowTransformer, batch: ConditionBatch, settings: SampleSettings, dropped: Collection[str] = ()) -> Tensor:
    """Unnormalised latents (b, n, c), float32. Conditions in `dropped`, which the network was trained without, are not told.

    The starting noise of a row is a function of (seed, id), so neither the batch nor the number of processes matters.
    """
    num, device = len(batch.ids), network.sync_pos_emb.device
    has_video = torch.ones(num, dtype=torch.bool) if batch.video_exist is None else batch.video_exist.cpu()

    def given(name: str, features: Tensor | None) -> Tensor:
        return network.null_features(name).expand(num, -1, -1) if features is None else features.to(device, torch.float32)

    def told(name: str, features: Tensor | None, who_has_it: Tensor) -> Told:
        return Told.of(who_has_it & (features is not None and name not in dropped))

    conditions = network.told_conditions(
        given("clip", batch.clip),
        given("sync", batch.sync),
        given("text", batch.text),
        ToldConditions(
            told("clip", batch.clip, has_video), told("sync", batch.sync, has_video), told("text", batch.text, torch.ones_like(has_video))
        ).to(device),
    )
    negative = None if batch.negative_text is None else batch.negative_text.to(device, torch.float32)
    null = network.empty_conditions(negative).expand(num)

    def velocity(told_so: Conditions) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda t, x: network.predict_flow(x, t.expand(num), told_so)

    items = torch.tensor([text_item(name) for name in batch.ids], device=device)
    x0_bnc = Draws(settings.seed, 0, items).normals("noise", network.latent_seq_len, network.latent_mean.shape[-1])
    way = guided(velocity(conditions), velocity(null), settings.cfg_strength)
    x1_bnc = integrate(way, x0_bnc, method=settings.method, num_steps=settings.num_steps, min_sigma=settings.min_sigma)
    return network.unnormalize(x1_bnc)
