"""Audio files to training clips, against the published system's numbers; every kind of file; what is refused and why."""

import json

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import (
    MediaError,
    audio_header,
    cut_training_clip,
    normalise_peak,
    read_audio,
    read_training_clip,
    resample,
    write_flac,
    write_wav,
)
from mmaudio.media.resampling import _resample_directly
from tests.golden.fill import GOLDEN, given

CASES = json.loads((GOLDEN / "audio_clips.json").read_text())
WAVES = np.load(GOLDEN / "audio_clips.npz")
RESAMPLED = np.load(GOLDEN / "resample.npz")
SPEC = AudioSpec("16k", 0.64)


def write_case(folder, file):
    """A recording of the golden set: noise that grows louder, 16 bits."""
    count, channels = file["num_samples"], file["channels"]
    noise = given("pcm:" + file["name"], count, channels).numpy().astype(np.float64)
    growth = 0.2 + 0.8 * np.arange(count)[:, None] / count
    levels = np.round(np.clip(0.25 * noise * growth, -1, 1) * file["peak"] * 32767).astype(np.int16)
    path = folder / f"{file['name']}.{file['format']}"
    soundfile.write(path, levels, file["sample_rate"], subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    return {file["name"]: write_case(folder, file) for file in CASES["files"]}


@pytest.mark.parametrize("item", CASES["items"], ids=lambda item: f"{item['mode']}-{item['clip']}")
def test_clips_of_the_published_system(item, recordings):
    path, spec = recordings[item["name"]], AudioSpec(item["mode"])
    if item.get("skipped"):
        with pytest.raises(MediaError, match=r"^silent: "):
            read_training_clip(path, item["start"], item["end"], spec)
        return
    wave = read_training_clip(path, item["start"], item["end"], spec)
    assert wave.dtype == torch.float32 and wave.shape == (item["n"],)
    for name, part in (("head", wave[:256]), ("tail", wave[-256:]), ("every997", wave[::997])):
        np.testing.assert_allclose(part, WAVES[f"{item['mode']}_{item['clip']}_{name}"], atol=2e-6)
    assert wave.double().square().sum().item() == pytest.approx(item["sumsq"], rel=1e-6)
    assert wave.max().item() == pytest.approx(item["max"], abs=2e-6)


def test_one_reading_serves_all_clips(recordings):
    sound = read_audio(recordings["00000003"])
    for start, end in ((0, 129600), (129700, 259300)):
        apart = read_training_clip(recordings["00000003"], start, end, AudioSpec())
        assert torch.equal(cut_training_clip(sound, start, end, AudioSpec()), apart)


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


def test_level_is_set_by_the_whole_file(tmp_path):
    wave = np.full(32_000, 0.1, np.float32)
    wave[-1] = -0.5
    write_wav(tmp_path / "a.wav", wave, 16_000)
    clip = read_training_clip(tmp_path / "a.wav", 0, 16_000, SPEC)
    np.testing.assert_allclose(clip, 0.1 / 0.5 * 0.95, atol=1e-4)


@pytest.mark.parametrize(("seconds", "expected"), [(0.63, r"^too short: 0\.630 s of sound, want 0\.640 s$"), (0.64, None)])
def test_short_clip_says_found_and_wanted(tmp_path, seconds, expected):
    write_wav(tmp_path / "a.wav", np.linspace(-0.5, 0.5, round(seconds * 16_000)), 16_000)
    if expected is None:
        assert read_training_clip(tmp_path / "a.wav", 0, None, SPEC).shape == (SPEC.num_samples,)
    else:
        with pytest.raises(MediaError, match=expected):
            read_training_clip(tmp_path / "a.wav", 0, None, SPEC)


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


def test_file_without_samples(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    assert len(read_audio(tmp_path / "a.wav").wave) == 0
    with pytest.raises(MediaError, match="silent"):
        read_training_clip(tmp_path / "a.wav", 0, None, SPEC)


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
