"""Conditions to latents: noise of each item's own, guidance, and a solver. Axes: b batch, n latent token, c channel."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.rng import CounterRng, text_item
from mmaudio.flow import ADAPTIVE
from mmaudio.flow.guidance import PresentConditions, PresentRows, guided_as_one_batch, uses_guidance
from mmaudio.flow.ode import Solution, solve
from mmaudio.network import Conditions, FlowTransformer


@dataclass(frozen=True)
class SampleSettings:
    """How to sample; defaults are the published ones, but for `amp`: bf16 autocast, which "adaptive" goes without."""

    num_steps: int = 25
    cfg_strength: float = 4.5
    method: str = "euler"
    min_sigma: float = 0.0
    seed: int = 42
    amp: bool = False


@dataclass(frozen=True)
class ConditionBatch:
    """Features to sample from: one id a row, text (b, 77, width), and video (b, tokens, width) or None for no video.

    `negative_text` (1 or b, 77, width) replaces the empty caption in guidance. `video_exist` (b,) bool marks the rows that
    have a video where not all have; None means all. `seeds` are the rows' own; None: that of the settings for all.
    """

    ids: list[str]
    text: Tensor
    clip: Tensor | None = None
    sync: Tensor | None = None
    negative_text: Tensor | None = None
    video_exist: Tensor | None = None
    seeds: list[int] | None = None


def sample_latents(network: FlowTransformer, batch: ConditionBatch, settings: SampleSettings, dropped: Collection[str] = ()) -> Tensor:
    """Unnormalised latents (b, n, c), float32: those of `sample`."""
    return sample(network, batch, settings, dropped).x_bnc


@torch.inference_mode()
def sample(network: FlowTransformer, batch: ConditionBatch, settings: SampleSettings, dropped: Collection[str] = ()) -> Solution:
    """Unnormalised latents (b, n, c), float32, and evaluations of each row's velocity, guidance as one.

    The starting noise of a row is a function of (seed, id), so neither the batch nor the number of processes matters: in
    float32 latents of unit scale are the same to 1e-5. What is left is that a CPU adds up products of one or two rows (of
    time and of pooled conditions) in another order than those of more, and that bf16 rounds likewise on a GPU.
    Conditions are projected once, before the first step. Those in `dropped`, which the network was trained without, are not told.
    Raises: UserError as `solve`.
    """
    device = network.sync_pos_emb.device
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.amp and settings.method != ADAPTIVE):
        velocity = velocity_of(network, batch, settings.cfg_strength, dropped)
        solution = solve(
            velocity,
            starting_noise(network, batch, settings.seed),
            method=settings.method,
            num_steps=settings.num_steps,
            min_sigma=settings.min_sigma,
            of_rows=velocity.of_rows,
        )
    return Solution(network.unnormalize(solution.x_bnc), solution.num_evaluations_b)


def starting_noise(network: FlowTransformer, batch: ConditionBatch, seed: int) -> Tensor:
    """The state at t = 0 (b, n, c), float32: for each row a function of its id, and of its seed or the common one."""
    device, shape = network.sync_pos_emb.device, (network.latent_seq_len, network.latent_mean.shape[-1])
    items = torch.tensor([text_item(name) for name in batch.ids], device=device)
    seeds = [seed] * len(items) if batch.seeds is None else batch.seeds
    if len(set(seeds)) == 1:
        return CounterRng(seeds[0], 0, items).normals("noise", *shape)
    return torch.cat([CounterRng(own, 0, item).normals("noise", *shape) for own, item in zip(seeds, items.split(1), strict=True)])


@dataclass(frozen=True)
class PlainVelocity:
    """The velocity of a batch by the conditions its rows are told."""

    network: FlowTransformer
    conditions: Conditions

    def __call__(self, t: Tensor, x_bnc: Tensor) -> Tensor:
        """At time t, a scalar or (b,), and state (b, n, c)."""
        return self.network.predict_flow(x_bnc, t.expand(len(x_bnc)), self.conditions)

    def of_rows(self, rows: Tensor) -> "PlainVelocity":
        """For some rows of the batch, (k,) int64."""
        return self if len(rows) == len(self.conditions.text_f) else PlainVelocity(self.network, self.conditions.pick(rows, rows, rows))


@dataclass(frozen=True)
class GuidedVelocity:
    """The velocity of a batch, led away from the null: `both` is that of its rows, followed by as many that are told the null."""

    both: PlainVelocity
    strength: float

    def __call__(self, t: Tensor, x_bnc: Tensor) -> Tensor:
        """At time t, a scalar or (b,), and state (b, n, c), in whose dtype it is."""
        return guided_as_one_batch(self.both, self.strength)(t, x_bnc)

    def of_rows(self, rows: Tensor) -> "GuidedVelocity":
        """For some rows of the batch, (k,) int64."""
        num = len(self.both.conditions.text_f) // 2
        return GuidedVelocity(self.both.of_rows(torch.cat([rows, rows + num])), self.strength)


def velocity_of(
    network: FlowTransformer, batch: ConditionBatch, strength: float, dropped: Collection[str] = ()
) -> PlainVelocity | GuidedVelocity:
    """Conditions projected once for all steps; with guidance where the strength asks for it."""
    conditions = batch_conditions(network, batch, dropped)
    if not uses_guidance(strength):
        return PlainVelocity(network, conditions)
    return GuidedVelocity(PlainVelocity(network, conditions.followed_by(null_conditions(network, batch))), strength)


def batch_conditions(network: FlowTransformer, batch: ConditionBatch, dropped: Collection[str] = ()) -> Conditions:
    """The projected conditions of every row: what it has and the network knows, and nulls for the rest."""
    num, device = len(batch.ids), network.sync_pos_emb.device
    has_video = torch.ones(num, dtype=torch.bool) if batch.video_exist is None else batch.video_exist.cpu()

    def given(name: str, features: Tensor | None) -> Tensor:
        return network.null_features(name).expand(num, -1, -1) if features is None else features.to(device, torch.float32)

    def present(name: str, features: Tensor | None, who_has_it: Tensor) -> PresentRows:
        return PresentRows.of(who_has_it & (features is not None and name not in dropped))

    return network.present_conditions(
        given("clip", batch.clip),
        given("sync", batch.sync),
        given("text", batch.text),
        PresentConditions(
            present("clip", batch.clip, has_video),
            present("sync", batch.sync, has_video),
            present("text", batch.text, torch.ones_like(has_video)),
        ).to(device),
    )


def null_conditions(network: FlowTransformer, batch: ConditionBatch) -> Conditions:
    """What guidance leads each row away from."""
    negative = None if batch.negative_text is None else batch.negative_text.to(network.sync_pos_emb.device, torch.float32)
    return network.empty_conditions(negative).expand(len(batch.ids))
