"""The log-mel front-end against numbers of the published implementation."""

import numpy as np
import pytest
import torch

from mmaudio.codec import MelSpectrogram
from mmaudio.codec.mel import mel_matrix
from tests.golden.fill import GOLDEN, error


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_mel_of_a_second(mode):
    golden = np.load(GOLDEN / f"mel_{mode}.npz")
    convert = MelSpectrogram(mode)
    assert error(convert(torch.from_numpy(golden["waveform"])[None])[0], golden["mel"]) < 1e-4
    silence = convert(torch.zeros(1, golden["mel_silence"].shape[1] * convert.constants.hop_samples))
    assert error(silence[0], golden["mel_silence"]) < 1e-6
    assert error(mel_matrix(mode)[[0, 40]], golden["mel_basis_rows_0_40"]) < 1e-5


def test_a_waveform_too_short_to_reflect_is_refused():
    with pytest.raises(ValueError, match="needs more than 384"):
        MelSpectrogram("16k")(torch.zeros(1, 300))
