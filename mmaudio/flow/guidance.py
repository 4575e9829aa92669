"""Classifier-free guidance: dropout in training, combination in sampling."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.rng import CounterRng

Velocity = Callable[[Tensor, Tensor], Tensor]  # (time, a scalar or one a row (b,); state (b, n, c)) → velocity (b, n, c)


def uses_guidance(strength: float) -> bool:
    """Below a strength of 1 there is no guidance: the conditional velocity alone."""
    return strength >= 1


def guided(conditional: Velocity, null: Velocity, strength: float) -> Velocity:
    """Lead the conditional velocity away from the null one: w · v_cond + (1 − w) · v_null, by two evaluations a step."""
    if not uses_guidance(strength):
        return conditional
    return lambda t, x: strength * conditional(t, x) + (1 - strength) * null(t, x)


def guided_as_one_batch(both: Velocity, strength: float) -> Velocity:
    """The same by one evaluation a step, of a batch of two.

    Args:
        both: the velocity of 2b rows, of which the first b are told the conditions and the others the null; at a time
            that is a scalar, or one for each of the 2b rows.
        strength: 1 or more.
    Returns: the velocity of b rows, in the state's dtype, in which it is also combined.
    """

    def velocity(t: Tensor, x_bnc: Tensor) -> Tensor:
        conditional, null = both(t if t.ndim == 0 else torch.cat([t, t]), torch.cat([x_bnc, x_bnc])).to(x_bnc.dtype).chunk(2)
        return strength * conditional + (1 - strength) * null

    return velocity


# ---- Which samples of a batch see which condition: not those that have none, nor those that drop it for guidance

NULL_SAMPLING = ("joint", "independent")


@dataclass(frozen=True)
class PresentRows:
    """Which samples are told a condition. To all others its null is told, which is the same for all of them.

    rows (k,) int64: the samples that are told, or where features are not one a sample, the places of theirs; source (b,) int64:
    0 for the null, i + 1 for the i-th of `rows`.
    """

    rows: Tensor
    source: Tensor

    @classmethod
    def of(cls, is_told_b: Tensor) -> "PresentRows":
        """From a flag for each sample. On a GPU this waits for the device, so make it where the flags are known: on the CPU."""
        return cls(is_told_b.nonzero()[:, 0], is_told_b.long().cumsum(0) * is_told_b)

    def among(self, has_row_b: Tensor) -> "PresentRows":
        """The same samples, for features that only some samples have a row of: `rows` are then numbers among these rows.

        Args:
            has_row_b: (b,) bool on the CPU; all who are told have one.
        """
        return PresentRows((has_row_b.long().cumsum(0) - 1)[self.rows], self.source)

    def to(self, device: torch.device) -> "PresentRows":
        return PresentRows(self.rows.to(device, non_blocking=True), self.source.to(device, non_blocking=True))


@dataclass(frozen=True)
class PresentConditions:
    """Who is told clip, sync and text."""

    clip: PresentRows
    sync: PresentRows
    text: PresentRows

    def among_videos(self, video_exist: Tensor) -> "PresentConditions":
        """For clip and sync features with a row for each sample that has video, (b,) bool, and for no other."""
        return PresentConditions(self.clip.among(video_exist), self.sync.among(video_exist), self.text)

    def to(self, device: torch.device) -> "PresentConditions":
        return PresentConditions(self.clip.to(device), self.sync.to(device), self.text.to(device))


@dataclass(frozen=True)
class ConditionDropout:
    """How conditions are dropped in training (Ho and Salimans 2022, arXiv 2207.12598); defaults are the published ones.

    `sampling`: clip and sync are dropped by one decision (joint), or by one each (independent). `dropped`: conditions that a
    run does without. Raises: ValueError for another way of sampling.
    """

    probability: float = 0.1
    sampling: str = "joint"
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sampling not in NULL_SAMPLING:
            raise ValueError(f"sampling is {self.sampling!r}; want {' or '.join(NULL_SAMPLING)}")


@dataclass(frozen=True)
class DropoutDraws:
    """Uniform numbers in [0, 1), (b,) each; one below the probability drops. `u_sync` counts only if sync decides alone."""

    u_video: Tensor
    u_sync: Tensor
    u_text: Tensor


def draw_dropout(draws: CounterRng) -> DropoutDraws:
    """The random numbers that decide which conditions are dropped in one step."""
    return DropoutDraws(draws.uniforms("drop_video"), draws.uniforms("drop_sync"), draws.uniforms("drop_text"))


def choose_present(video_exist: Tensor, text_exist: Tensor, draws: DropoutDraws, settings: ConditionDropout) -> PresentConditions:
    """Who is told what, from which conditions exist (b,) bool and the draws."""
    u_sync = draws.u_video if settings.sampling == "joint" else draws.u_sync
    rows = {"clip": (video_exist, draws.u_video), "sync": (video_exist, u_sync), "text": (text_exist, draws.u_text)}
    return PresentConditions(
        **{name: PresentRows.of(exist & (u >= settings.probability) & (name not in settings.dropped)) for name, (exist, u) in rows.items()}
    )
