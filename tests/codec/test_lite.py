"""The lite codec: what survives the way wave → latents → wave."""

import math

import numpy as np
import pytest
import torch

from mmaudio.base.specs import MODES
from mmaudio.codec import LiteCodec, LiteVocoder, MelSpectrogram
from mmaudio.codec.lite_codec import cosine_basis
from mmaudio.media.synthetic import MATERIALS, draw_bounces, render_sound

DB = 20.0
MOST_CODEC_ERROR_DB = 9.0  # within 60 dB of the loudest band: metal, all narrow partials, is the worst case
MOST_VOCODER_ERROR_DB = 3.0


def decibels(log_mel, mode):
    return DB * log_mel * (1.0 if mode == "16k" else math.log10(math.e))


def bounces_of(material):
    drawn = (draw_bounces(3, "codec", index, 8.0) for index in range(100))
    return next(bounces for bounces in drawn if bounces.ball.material == material)


@pytest.fixture(scope="module", params=[(mode, material) for mode in MODES for material in MATERIALS], ids="-".join)
def round_trip(request):
    mode, material = request.param
    rate_hz, channels = MODES[mode].rate_hz, MODES[mode].latent_channels
    bounces = bounces_of(material)
    sound = torch.from_numpy(render_sound(bounces, rate_hz))
    hop = MelSpectrogram(mode).constants.hop_samples
    sound = sound[: len(sound) // (2 * hop) * 2 * hop][None]
    mel = MelSpectrogram(mode)(sound)
    mean, std = LiteCodec(mode).encode(mel)
    back_mel = LiteCodec(mode).decode(mean)
    back = LiteVocoder(mode)(back_mel)[:, 0]
    assert mean.shape == std.shape == (1, channels, mel.shape[-1] // 2)
    assert back.shape == sound.shape
    return mode, rate_hz, bounces, sound, mel, back_mel, back


def test_mel_error(round_trip):
    mode, _, _, _, mel, back_mel, back = round_trip
    loud = mel > mel.max() - (3.0 if mode == "16k" else 3.0 * math.log(10))  # within 60 dB of the loudest
    codec_db = decibels(back_mel - mel, mode).abs()[loud].mean()
    vocoder_db = decibels(MelSpectrogram(mode)(back) - back_mel, mode).abs()[back_mel > mel.max() - 3.0].mean()
    assert codec_db < MOST_CODEC_ERROR_DB, f"codec error {codec_db:.2f} dB"
    assert vocoder_db < MOST_VOCODER_ERROR_DB, f"vocoder error {vocoder_db:.2f} dB"


def test_onsets_are_kept(round_trip):
    _, rate_hz, bounces, sound, _, _, back = round_trip
    window = rate_hz // 100

    def rise_s(wave, near_s):
        """When the short-time energy around an impact first passes a quarter of its largest value."""
        at = int((near_s - 0.1) * rate_hz)
        energy = wave[0, max(at, 0) : at + rate_hz // 5].square().unfold(0, window, window // 8).mean(-1)
        return float((energy > energy.max() / 4).nonzero()[0, 0]) * (window // 8) / rate_hz

    heard = [t for t in bounces.impacts_s if 0.15 < t < 7.8]
    assert len(heard) >= 8
    moved_s = [abs(rise_s(back, t) - rise_s(sound, t)) for t in heard]
    assert max(moved_s) < 0.03, moved_s
    assert np.mean(moved_s) < 0.015


def test_silence_stays_silent():
    mel = MelSpectrogram("16k")(torch.zeros(1, 16_384))
    back = LiteVocoder("16k")(LiteCodec("16k").decode(LiteCodec("16k").encode(mel)[0]))
    assert back.abs().max() < 10 ** (-60 / 20)


def test_cosine_basis_is_orthonormal():
    basis = cosine_basis(14, 80)
    assert torch.allclose(basis @ basis.T, torch.eye(14), atol=1e-5)


def test_no_coefficient_lost_means_no_error():
    """With smooth spectra, which need no high order, the codec alone is exact."""
    smooth = LiteCodec("16k").decode(torch.randn(2, 20, 31) * 0.3)
    again = LiteCodec("16k").decode(LiteCodec("16k").encode(smooth)[0])
    assert torch.allclose(again, smooth, atol=1e-4)
