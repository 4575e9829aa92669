"""Which samples of a batch are told which condition: not those that have none, nor those that drop it for guidance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.draws import Draws

NULL_SAMPLING = ("joint", "independent")


@dataclass(frozen=True)
class Told:
    """Which samples are told a condition. To all others its null is told, which is the same for all of them.

    rows (k,) int64: the samples that are told, or where features are not one a sample, the places of theirs; source (b,) int64:
    0 for the null, i + 1 for the i-th of `rows`.
    """

    rows: Tensor
    source: Tensor

    @classmethod
    def of(cls, is_told_b: Tensor) -> "Told":
        """From a flag for each sample. On a GPU this waits for the device, so make it where the flags are known: on the CPU."""
        return cls(is_told_b.nonzero()[:, 0], is_told_b.long().cumsum(0) * is_told_b)

    def among(self, has_row_b: Tensor) -> "Told":
        """The same samples, for features that only some samples have a row of: `rows` are then numbers among these rows.

        Args:
            has_row_b: (b,) bool on the CPU; all who are told have one.
        """
        return Told((has_row_b.long().cumsum(0) - 1)[self.rows], self.source)

    def to(self, device: torch.device) -> "Told":
        return Told(self.rows.to(device, non_blocking=True), self.source.to(device, non_blocking=True))


@dataclass(frozen=True)
class ToldConditions:
    """Who is told clip, sync and text."""

    clip: Told
    sync: Told
    text: Told

    def among_videos(self, video_exist: Tensor) -> "ToldConditions":
        """For clip and sync features with a row for each sample that has video, (b,) bool, and for no other."""
        return ToldConditions(self.clip.among(video_exist), self.sync.among(video_exist), self.text)

    def to(self, device: torch.device) -> "ToldConditions":
        return ToldConditions(self.clip.to(device), self.sync.to(device), self.text.to(device))


@dataclass(frozen=True)
class NullSettings:
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
class NullDraws:
    """Uniform numbers in [0, 1), (b,) each; one below the probability drops. `u_sync` counts only if sync decides alone."""

    u_video: Tensor
    u_sync: Tensor
    u_text: Tensor


def draw_nulls(draws: Draws) -> NullDraws:
    """The random numbers that decide which conditions are dropped in one step."""
    return NullDraws(draws.uniforms("drop_video"), draws.uniforms("drop_sync"), draws.uniforms("drop_text"))


def choose_told(video_exist: Tensor, text_exist: Tensor, draws: NullDraws, settings: NullSettings) -> ToldConditions:
    """Who is told what, from which conditions exist (b,) bool and the draws."""
    u_sync = draws.u_video if settings.sampling == "joint" else draws.u_sync
    rows = {"clip": (video_exist, draws.u_video), "sync": (video_exist, u_sync), "text": (text_exist, draws.u_text)}
    return ToldConditions(
        **{name: Told.of(exist & (u >= settings.probability) & (name not in settings.dropped)) for name, (exist, u) in rows.items()}
    )
