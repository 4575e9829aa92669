"""Audio files to waves and back: the resampler of the published system, every kind of file, what is refused and why."""

import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.media.audio import MediaError, audio_header, read_audio, write_flac, write_wav
from mmaudio.media.audio_clips import normalise_peak
from mmaudio.media.resampling import _resample_directly, resample
from tests.golden.fill import GOLDEN

RESAMPLED = np.load(GOLDEN / "resample.npz")


@pytest.mark.parametrize("key", [key.removeprefix("in_") for key in RESAMPLED if key.startswith("in_")])
def test_resampler_of_the_published_system(key):
    from_hz, to_hz, _ = (int(part) for part in key.split("_"))
    given_wave, want = RESAMPLED[f"in_{key}"], RESAMPLED[f"out_{key}"]
    np.testing.assert_allclose(resample(given_wave, from_hz, to_hz), want, atol=2e-6)
    common = np.gcd(from_hz, to_hz)
    direct = _resample_directly(torch.from_numpy(given_wave), from_hz // common, to_hz // common)
    np.testing.assert_allclose(direct, want, atol=5e-5)  # the table rounds its phases to float32


def test_rates_without_a_common_divisor():
    time = torch.arange(22_255, dtype=torch.float64) / 22_255
    out = resample(torch.sin(2 * torch.pi * 440 * time), 22_255, 16_001)
    want = torch.sin(2 * torch.pi * 440 * torch.arange(16_001, dtype=torch.float64) / 16_001)
    assert out.shape == (16_001,)
    assert (out - want)[500:-500].abs().max() < 1e-4


def test_equal_rates_are_untouched():
    wave = torch.randn(100)
    assert torch.equal(resample(wave, 8000, 8000), wave)


SUBTYPES = [("wav", "PCM_U8", 2e-2), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6), ("wav", "PCM_32", 1e-6)]
SUBTYPES += [("wav", "FLOAT", 1e-7), ("wav", "DOUBLE", 1e-7), ("flac", "PCM_S8", 2e-2), ("flac", "PCM_16", 1e-4), ("flac", "PCM_24", 1e-6)]


@pytest.mark.parametrize(("suffix", "subtype", "tolerance"), SUBTYPES)
@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_every_kind_of_file_is_averaged(tmp_path, suffix, subtype, tolerance, num_channels):
    channels = 0.9 * np.random.default_rng(1).uniform(-1, 1, (4000, num_channels))
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, channels, 22_050, subtype=subtype)
    assert audio_header(path) == (4000, 22_050)
    sound = read_audio(path)
    np.testing.assert_allclose(sound.wave, channels.mean(axis=1), atol=tolerance)
    assert sound.file_peak == np.abs(sound.wave).max()
    np.testing.assert_array_equal(read_audio(path, 100, 300).wave, sound.wave[100:300])
    assert read_audio(path, 100, 300).file_peak == sound.file_peak


def test_silence_threshold():
    assert normalise_peak(np.full(3, 1e-5, np.float32), 1e-5) == pytest.approx(0.95)
    with pytest.raises(MediaError, match="silent"):
        normalise_peak(np.full(3, 9e-7, np.float32), 9e-7)


def torn_flac(path):
    write_flac(path, 0.5 * np.sin(np.arange(200_000)), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_unreadable_files_say_why(tmp_path):
    path = tmp_path / "a.flac"
    with pytest.raises(MediaError, match=r"^no file at .*a\.flac$"):
        read_audio(path)
    path.touch()
    with pytest.raises(MediaError, match=r"^the file is empty \(0 bytes\)$"):
        read_audio(path)
    path.write_text("this is no audio, only words that go on for a while")
    for read in (read_audio, audio_header):
        with pytest.raises(MediaError, match=r"^not readable as audio: "):
            read(path)
    torn_flac(path)
    with pytest.raises(MediaError, match=r"truncated|damaged"):
        read_audio(path)
    soundfile.write(tmp_path / "a.wav", np.array([0.1, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(MediaError, match="not finite"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(MediaError, match=r"^no file at"):
        read_audio(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    for read in (read_audio, audio_header):
        with pytest.raises(MediaError, match=r"^no file at"):
            read(tmp_path / "a.wav")


def test_no_file_stays_open(tmp_path):
    write_wav(tmp_path / "good.wav", np.ones(100), 16_000)
    (tmp_path / "bad.wav").write_bytes(b"no audio at all, but long enough")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        audio_header(tmp_path / "good.wav")
        read_audio(tmp_path / "good.wav")
        with pytest.raises(MediaError):
            audio_header(tmp_path / "bad.wav")
    assert os.listdir("/proc/self/fd") == before


def test_waiting_for_storage_is_not_done_one_file_at_a_time(tmp_path, monkeypatch):
    """soundfile opens one file at a time; the header is fetched before, by all threads at once."""
    write_wav(tmp_path / "a.wav", np.ones(100), 16_000)
    together, waiting = threading.Barrier(8, timeout=30), os.pread

    def slow(handle, count, offset):
        together.wait()
        return waiting(handle, count, offset)

    monkeypatch.setattr(os, "pread", slow)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(audio_header, [tmp_path / "a.wav"] * 8)) == [(100, 16_000)] * 8


def test_file_without_samples(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    sound = read_audio(tmp_path / "a.wav")
    assert len(sound.wave) == 0 and sound.file_peak == 0


def test_flac_whose_header_leaves_the_length_out(tmp_path):
    path = tmp_path / "a.flac"
    write_flac(path, 0.5 * np.sin(np.arange(50_000) / 7), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # of the stream's description: the 36 bits that count its samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    for read in (read_audio, audio_header):
        with pytest.raises(MediaError, match=r"^its header leaves out the length"):
            read(path)


@pytest.mark.parametrize(("write", "suffix"), [(write_flac, "flac"), (write_wav, "wav")])
def test_written_waves_are_clipped_and_come_back(tmp_path, write, suffix):
    path = tmp_path / "new folder" / f"a.{suffix}"
    wave = torch.tensor([0.0, 0.5, 1.0, 1.7, -1.0, -3.0] * 10)
    write(path, wave, 16_000)
    np.testing.assert_allclose(read_audio(path).wave, wave.clamp(-1, 1), atol=1e-4)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    first = path.read_bytes()
    write(path, wave, 16_000)
    assert path.read_bytes() == first


def test_a_wave_with_holes_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        write_flac(tmp_path / "a.flac", [0.0, float("nan")], 16_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_flac, write_wav])
def test_a_full_disk_is_an_error_of_the_file(tmp_path, write):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as raised:
            write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-1, 1, 16_000), 16_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.filename == str(tmp_path / "a.flac") and list(tmp_path.iterdir()) == []
