"""Decoded blocks of a sound track to one mono wave on the file's clock, keeping no more than is wanted."""

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from mmaudio.media.audio import MediaError, Sound, average_channels

Wave = npt.NDArray[np.float32]
LONGEST_GAP_S = 600  # time stamps that jump further are wrong
JITTER_S = 0.05  # time stamps may be this far from where the samples before them end


class TrackReader:
    """Takes blocks in order and lays them on a line that starts at time 0; a late start or a gap becomes silence."""

    def __init__(self, origin_s: Fraction, until_s: float | None) -> None:
        self.origin_s = origin_s
        self.until_s = until_s
        self.rate_hz = 0
        self.peak = 0.0
        self.num_samples = 0  # laid so far, kept or not
        self.blocks: list[Wave] = []
        self.to_float = av.AudioResampler(format="fltp")
        self.layout = ""

    @property
    def ends_s(self) -> Fraction:
        return Fraction(self.num_samples, self.rate_hz) if self.rate_hz else Fraction(0)

    @property
    def is_full(self) -> bool:
        return self.until_s is not None and self.ends_s >= self.until_s

    def take(self, frame: "av.AudioFrame") -> None:
        """Add a decoded block. Raises: MediaError for another rate than before, a wild time stamp, or samples that are no numbers."""
        if self.rate_hz not in (0, frame.sample_rate):
            raise MediaError(f"the sound changes its rate from {self.rate_hz} to {frame.sample_rate} Hz")
        if self.layout != frame.layout.name:  # a broadcast may change from stereo to mono and back
            self.to_float, self.layout = av.AudioResampler(format="fltp"), frame.layout.name
        is_first, self.rate_hz = self.rate_hz == 0, frame.sample_rate
        mono = np.concatenate([average_channels(part.to_ndarray(), axis=0) for part in self.to_float.resample(frame)])
        if not np.isfinite(mono).all():
            raise MediaError("the sound holds samples that are not finite numbers")
        self._place(mono, self._gap_samples(frame, is_first))

    def _gap_samples(self, frame: "av.AudioFrame", is_first: bool) -> int:
        """Samples between where the track ends so far and where this block belongs; below 0 for a start before time 0."""
        if frame.pts is None or frame.time_base is None:
            return 0
        gap_s = frame.pts * frame.time_base - self.origin_s - self.ends_s
        if gap_s > LONGEST_GAP_S:
            raise MediaError(f"the sound has a gap of {float(gap_s):.0f} s")
        starts_track = is_first or not self.num_samples  # all so far lay before time 0
        return round(gap_s * self.rate_hz) if starts_track or gap_s > JITTER_S else 0

    def _place(self, mono: Wave, gap_samples: int) -> None:
        if gap_samples < 0:
            mono = mono[-gap_samples:]
        self.peak = max(self.peak, float(np.abs(mono).max(initial=0.0)))
        wanted = None if self.until_s is None else max(0, round(self.until_s * self.rate_hz) - self.num_samples)
        laid = np.pad(mono, (max(0, gap_samples), 0))
        if wanted != 0:
            self.blocks.append(laid[:wanted])
        self.num_samples += len(laid)

    def sound(self) -> Sound:
        """What was kept. Raises: MediaError if there was nothing."""
        if not self.num_samples:
            raise MediaError("the sound track is empty")
        return Sound(np.concatenate(self.blocks), self.rate_hz, self.peak)
