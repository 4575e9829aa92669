"""One sampling rate to another by a windowed sinc with the "kaiser best" settings (data.md section 5)."""

from functools import lru_cache
from math import ceil, gcd

import numpy.typing as npt
import torch
import torchaudio.transforms
from torch import Tensor

FILTER_WIDTH = 64  # zero crossings to each side
ROLLOFF = 0.9475937167399596
KAISER_BETA = 14.769656459379492
LARGEST_TABLE = 1 << 23  # filter taps; rates without a common divisor would need gigabytes
OUTPUTS_AT_ONCE = 1 << 12
WEIGHTS_AT_ONCE = 1 << 20  # fewer outputs at a rate so high that each is made from very many samples


def resample(wave: npt.ArrayLike, from_hz: int, to_hz: int) -> Tensor:
    """(samples,) at one rate → (ceil(samples · to / from),) float32 at another; at the same rate untouched."""
    samples = torch.as_tensor(wave, dtype=torch.float32)
    if from_hz == to_hz:
        return samples
    common = gcd(from_hz, to_hz)
    num_in, num_out = from_hz // common, to_hz // common
    if num_in * num_out > LARGEST_TABLE:
        return _resample_directly(samples, num_in, num_out)
    return _resampler(num_in, num_out)(samples)


@lru_cache(maxsize=32)
def _resampler(num_in: int, num_out: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(
        num_in, num_out, "sinc_interp_kaiser", lowpass_filter_width=FILTER_WIDTH, rolloff=ROLLOFF, beta=KAISER_BETA
    )


def _resample_directly(samples: Tensor, num_in: int, num_out: int) -> Tensor:
    """The same filter, evaluated where it is needed instead of tabulated: slower, for any two rates."""
    passband = min(num_in, num_out) * ROLLOFF
    reach = ceil(FILTER_WIDTH * num_in / passband)  # input samples to each side
    taps = torch.arange(-reach, reach + 1)
    padded = torch.nn.functional.pad(samples, (reach, reach + 1))
    length = -(-len(samples) * num_out // num_in)
    beta = torch.tensor(KAISER_BETA, dtype=torch.float64)
    num_at_once = min(OUTPUTS_AT_ONCE, max(1, WEIGHTS_AT_ONCE // len(taps)))
    parts = []
    for first in range(0, length, num_at_once):
        outputs = torch.arange(first, min(first + num_at_once, length))
        whole, part = outputs * num_in // num_out, outputs * num_in % num_out
        since = taps[None, :] - part[:, None].double() / num_out  # in input samples, (outputs, taps)
        turns = (since * passband / num_in).clamp(-FILTER_WIDTH, FILTER_WIDTH)
        window = torch.special.i0(beta * (1 - (turns / FILTER_WIDTH) ** 2).sqrt()) / torch.special.i0(beta)
        weights = window * torch.sinc(turns) * (passband / num_in)
        parts.append((weights.float() * padded[whole[:, None] + taps[None, :] + reach]).sum(dim=1))
    return torch.cat(parts) if parts else samples[:0]
