"""Decoded blocks of a sound track to one mono wave on the file's clock, keeping no more than is wanted."""

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from mmaudio.media.audio import MediaError, Sound, average_channels
from mmaudio.media.containers import clock_origin_s, cut_off, sound_of
from mmaudio.media.sound_files import check_rate

Wave = npt.NDArray[np.float32]
LONGEST_GAP_S = 600  # time stamps that jump further are wrong
JITTER_S = Fraction(1, 20)  # time stamps may be this far from where the samples before them end


class SoundTrack:
    """Takes blocks in order and lays them on a line that starts at time 0; a late start or a gap becomes silence.

    Samples until `until_s` are kept (None: all). With `whole_peak` the rest is decoded too, for the peak.
    """

    def __init__(self, container: "av.container.InputContainer", until_s: float | None, *, whole_peak: bool) -> None:
        self.stream = sound_of(container)
        self.origin_s = clock_origin_s(container)
        self.until_s = until_s
        self.whole_peak = whole_peak
        self.rate_hz = 0
        self.peak = 0.0
        self.num_samples = 0  # laid so far, kept or not
        self.blocks: list[Wave] = []
        self.to_float = av.AudioResampler(format="fltp")
        self.layout = ""

    @property
    def num_wanted(self) -> int | None:
        return None if self.until_s is None else round(self.until_s * self.rate_hz)

    @property
    def is_full(self) -> bool:
        return self.num_wanted is not None and self.rate_hz > 0 and self.num_samples >= self.num_wanted

    @property
    def is_done(self) -> bool:
        return self.is_full and not self.whole_peak

    def take(self, frame: "av.AudioFrame") -> None:
        """Add a decoded block.

        Raises: MediaError for damage, another rate than before, a wild rate or time stamp, and samples that are no numbers.
        """
        if frame.is_corrupt:
            raise MediaError(f"the sound is damaged at {float(self.num_samples / (self.rate_hz or 1)):.2f} s")
        check_rate(frame.sample_rate)
        if self.rate_hz not in (0, frame.sample_rate):
            raise MediaError(f"the sound changes its rate from {self.rate_hz} to {frame.sample_rate} Hz")
        if self.layout != frame.layout.name:  # a broadcast may change from stereo to mono and back
            self.to_float, self.layout = av.AudioResampler(format="fltp"), frame.layout.name
        self.rate_hz = frame.sample_rate
        mono = np.concatenate([average_channels(part.to_ndarray(), axis=0) for part in self.to_float.resample(frame)])
        if not np.isfinite(mono).all():
            raise MediaError("the sound holds samples that are not finite numbers")
        gap = self._gap_samples(frame)
        if gap > 0:
            self._lay(np.zeros(gap, np.float32))
        mono = mono[max(0, -gap) :]
        self.peak = max(self.peak, float(np.abs(mono).max(initial=0.0)))
        self._lay(mono)

    def _gap_samples(self, frame: "av.AudioFrame") -> int:
        """Samples between where the track ends so far and where this block belongs; below 0 for a start before time 0."""
        if frame.pts is None or frame.time_base is None:
            return 0
        starts_at = (frame.pts * frame.time_base - self.origin_s) * self.rate_hz
        gap = starts_at - self.num_samples
        if gap > LONGEST_GAP_S * self.rate_hz:
            raise MediaError(f"the sound has a gap of {float(gap / self.rate_hz):.0f} s")
        starts_track = not self.num_samples  # all so far, if anything, lay before time 0
        return round(gap) if starts_track or gap > JITTER_S * self.rate_hz else 0

    def _lay(self, mono: Wave) -> None:
        room = None if self.num_wanted is None else max(0, self.num_wanted - self.num_samples)
        if room != 0:
            self.blocks.append(mono[:room])
        self.num_samples += len(mono)

    def sound(self) -> Sound:
        """What was kept. Raises: MediaError if there was nothing, or if the file was cut off before `until_s`."""
        if self.until_s is not None and not self.is_full:
            ends_s = Fraction(self.num_samples, self.rate_hz or 1)
            reason = cut_off("sound", ends_s, self.stream)
            if reason:
                raise MediaError(reason)
        if not self.num_samples:
            raise MediaError("the sound track is empty")
        return Sound(np.concatenate(self.blocks), self.rate_hz, self.peak)
