"""A wave on its way into an .mp4."""

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

AAC_BITS_PER_S = 128_000
AAC_FRAME_SAMPLES = 1024


class AacTrack:
    """A mono wave on its way into a container, encoded bit by bit so that sound and picture lie side by side in the file."""

    def __init__(self, container: "av.container.OutputContainer", wave: npt.ArrayLike, rate_hz: int) -> None:
        stream = container.add_stream("aac", rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = AAC_BITS_PER_S
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        self.container, self.stream, self.rate_hz = container, stream, rate_hz
        self.samples = np.clip(np.asarray(wave, dtype=np.float32), -1.0, 1.0)
        if not np.isfinite(self.samples).all():
            raise ValueError("the wave holds values that are not finite numbers")
        self.num_encoded = 0

    def encode_until(self, time_s: Fraction) -> None:
        """Encode what begins before a time of the wave and is not encoded yet."""
        end = min(len(self.samples), int(time_s * self.rate_hz))
        while self.num_encoded < end:
            block = self.samples[None, self.num_encoded : self.num_encoded + AAC_FRAME_SAMPLES]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate_hz, self.num_encoded, Fraction(1, self.rate_hz)
            self.container.mux(self.stream.encode(frame))
            self.num_encoded += block.shape[1]

    def finish(self, num_samples: int | None = None) -> None:
        """Encode what is left; with `num_samples`, cut the wave to so many, or follow it by silence."""
        if num_samples is not None:
            self.samples = np.pad(self.samples[:num_samples], (0, max(0, num_samples - len(self.samples))))
        self.encode_until(Fraction(len(self.samples), self.rate_hz))
        self.container.mux(self.stream.encode(None))
