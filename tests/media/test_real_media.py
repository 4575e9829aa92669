"""The two real files that lie beside some checkouts: a 10 s 720p video and a 29 s recording. Skipped where they are not."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import audio_header, read_audio
from mmaudio.media.audio_clips import Span, read_training_clips
from mmaudio.media.mp4 import mux_sound
from mmaudio.media.video import read_silent_video, read_sound_track, read_video
from tests.media.made_videos import picture_packets

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "media"
VIDEO, RECORDING = FOLDER / "0B4dYTMsgHA_000130.mp4", FOLDER / "00008004.flac"
pytestmark = pytest.mark.skipif(not (VIDEO.is_file() and RECORDING.is_file()), reason="the real media are not beside this checkout")


def test_recording():
    num_samples, rate_hz = audio_header(RECORDING)
    sound = read_audio(RECORDING)
    assert (len(sound.wave), sound.rate_hz) == (num_samples, rate_hz) == (1_392_398, 48_000) and 0 < sound.file_peak <= 1
    for mode in ("16k", "44k"):
        (wave,) = read_training_clips(RECORDING, [Span(48_000, 48_000 + 388_800)], AudioSpec(mode))
        assert isinstance(wave, torch.Tensor)
        assert wave.shape == (AudioSpec(mode).num_samples,) and wave.isfinite().all()


def test_video_reads_the_same_in_many_threads():
    spec = AudioSpec("44k")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda path: read_video(path, spec, with_sound=True), [VIDEO, VIDEO])
    assert first.clip_u8.shape == (64, 3, 384, 384) and first.sync_u8.shape == (200, 3, 224, 224)
    assert first.wave.shape == (353_280,) and 0.5 < first.wave.abs().max() <= 1.0
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("clip_u8", "sync_u8", "wave"))
    assert first.sync_u8.float().std() > 10


def test_video_is_10_s_long():
    silent = read_silent_video(VIDEO, 12.0)
    assert silent.duration_s == 10.0 and len(silent.clip_u8) == 80 and len(silent.sync_u8) == 250


def test_new_sound_under_real_pictures(tmp_path):
    mux_sound(VIDEO, torch.zeros(353_280), 44_100, tmp_path / "a.mp4")
    assert picture_packets(tmp_path / "a.mp4") == picture_packets(VIDEO)
    assert read_sound_track(tmp_path / "a.mp4").duration_s == pytest.approx(10.0, abs=1 / 25)
