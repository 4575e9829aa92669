"""Lengths of every sequence, against the published system's tables."""

import numpy as np
import pytest

from mmaudio.base.specs import MODES, AudioSpec
from tests.golden.fill import GOLDEN

TABLES = np.load(GOLDEN / "sequence_lengths.npz")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", range(len(TABLES["durations"])))
def test_lengths_of_the_published_system(mode, row):
    spec = AudioSpec(mode, float(TABLES["durations"][row]))
    assert [spec.num_latents, spec.num_clip_frames, spec.num_sync_tokens, spec.num_samples] == TABLES[f"table_{mode}"][row].tolist()


@pytest.mark.parametrize(("mode", "wanted"), [("16k", (250, 20, 128000, 16000)), ("44k", (345, 40, 353280, 44100))])
def test_eight_seconds(mode, wanted):
    spec = AudioSpec(mode)
    assert (spec.num_latents, spec.latent_channels, spec.num_samples, spec.rate_hz) == wanted
    assert (spec.num_clip_frames, spec.num_sync_frames, spec.num_sync_tokens) == (64, 200, 192)


def test_sync_tokens_are_those_of_the_frames():
    """Eight tokens a segment of 16 frames, one every 8 frames, also where 25 times the duration is rounded."""
    for num_frames in range(16, 760):
        spec = AudioSpec("16k", num_frames / 25)
        assert spec.num_sync_tokens == 8 * ((spec.num_sync_frames - 16) // 8 + 1), num_frames


WRONG = [("8k", 8.0, "want one of 16k, 44k"), ("16k", 0.63, "at least 0.64"), ("16k", float("nan"), "nan")]


@pytest.mark.parametrize(("mode", "duration_s", "said"), WRONG)
def test_refuses_what_has_no_lengths(mode, duration_s, said):
    with pytest.raises(ValueError, match=said):
        AudioSpec(mode, duration_s)
