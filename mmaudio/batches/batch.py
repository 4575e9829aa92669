"""What a step of training or validation gets: rows of a mixture, in the dtype they are stored in."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """b samples, v of which have video. Features are on the training device in their stored dtype; the rest is on the CPU.

    Batches of an iterator may be views of buffers that are used again: each is valid until the next one is asked for.
    """

    ids: list[str]
    captions: list[str]
    positions: Tensor  # (b,) int64: training: place in the global batch; validation: place in the whole set
    video_exist: Tensor  # (b,) bool
    text_exist: Tensor  # (b,) bool
    a_mean: Tensor  # (b, latents, channels): latents' posterior mean …
    a_std: Tensor  # … and standard deviation
    clip_features: Tensor  # (v, tokens, width): of the samples that have video alone, in the order of the batch
    sync_features: Tensor  # (v, tokens, width)
    text_table: Tensor  # (t, tokens, width): captions, those of the batch among them
    text_rows: Tensor  # (b,) int64, on the training device: which of them each sample has

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def text_features(self) -> Tensor:
        """(b, tokens, width): a copy."""
        return self.text_table.index_select(0, self.text_rows)

    def part(self, start: int, stop: int) -> "Batch":
        """Samples start … stop - 1, as views: a micro batch."""
        has_video = self.video_exist.numpy()
        first = int(has_video[:start].sum())
        some, video = slice(start, stop), slice(first, first + int(has_video[start:stop].sum()))
        return Batch(
            ids=self.ids[some],
            captions=self.captions[some],
            positions=self.positions[some],
            video_exist=self.video_exist[some],
            text_exist=self.text_exist[some],
            a_mean=self.a_mean[some],
            a_std=self.a_std[some],
            clip_features=self.clip_features[video],
            sync_features=self.sync_features[video],
            text_table=self.text_table,
            text_rows=self.text_rows[some],
        )

    def one_a_sample(self, rows: Tensor) -> Tensor:
        """For who cannot do with clip or sync features of some: (b, tokens, width), zero for samples without video.

        Args:
            rows: (v, tokens, width), one for each sample with video.
        Raises: ValueError for another number of rows.
        """
        places = self.video_exist.numpy().nonzero()[0]
        if len(rows) != len(places):
            raise ValueError(f"{len(rows)} rows for {len(places)} samples with video")
        if len(rows) == len(self):
            return rows
        every = rows.new_zeros((len(self), *rows.shape[1:]))
        every[places] = rows
        return every


@dataclass(frozen=True)
class Selection:
    """Which rows make up a batch: numbers only. `owners` and `rows` (b,): number of the source, and row in its store."""

    owners: np.ndarray
    rows: np.ndarray
    positions: np.ndarray
    has_video: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)
