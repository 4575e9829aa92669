"""Recordings to training clips: the published system's numbers, every kind of file, spans of all kinds, and what is refused."""

import json
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.media import audio as sound_files
from mmaudio.media import audio_clips as reading
from mmaudio.media.audio import MediaError, read_audio, write_flac, write_wav
from mmaudio.media.audio_clips import Span, fit_length, normalise_peak, read_training_clips
from mmaudio.media.resampling import resample
from tests.golden.fill import GOLDEN, given

CASES = json.loads((GOLDEN / "audio_clips.json").read_text())
WAVES = np.load(GOLDEN / "audio_clips.npz")
SPEC = AudioSpec("16k", 0.64)
RATE_HZ, LENGTH = 16_000, SPEC.num_samples


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
        with pytest.raises(MediaError, match=r"^silent: the largest sample is 0.0e\+00$"):
            read_training_clips(path, [Span(item["start"], item["end"])], spec)
        return
    (wave,) = read_training_clips(path, [Span(item["start"], item["end"])], spec)
    assert wave.dtype == torch.float32 and wave.shape == (item["n"],)
    for name, part in (("head", wave[:256]), ("tail", wave[-256:]), ("every997", wave[::997])):
        np.testing.assert_allclose(part, WAVES[f"{item['mode']}_{item['clip']}_{name}"], atol=2e-6)
    assert wave.double().square().sum().item() == pytest.approx(item["sumsq"], rel=1e-6)
    assert wave.max().item() == pytest.approx(item["max"], abs=2e-6)


def noise(count, channels=1, level=0.5, seed=0):
    return np.random.default_rng(seed).uniform(-level, level, (count, channels)).astype(np.float32)


def clips_of(path, *spans, spec=SPEC):
    return read_training_clips(path, [Span(*span) for span in spans], spec)


def reasons(clips):
    return [str(clip) if isinstance(clip, MediaError) else "" for clip in clips]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sound_files, "BLOCK_SAMPLES", 1000)


@pytest.fixture
def file(tmp_path):
    """Two seconds of noise whose loudest sample, 0.8, comes last."""
    wave = noise(2 * RATE_HZ)[:, 0]
    wave[-1] = -0.8
    soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype="FLOAT")
    return tmp_path / "a.wav", wave


SPANS = [(5000, 17_000), (0, 12_000), (18_000, 32_000), (5000, 16_001), (999, 12_345), (1000, 13_000), (21_000,), (0,), (5000, 17_000)]


def test_spans_overlap_repeat_and_come_in_any_order(file, small_blocks):
    path, wave = file
    for span, clip in zip(SPANS, clips_of(path, *SPANS), strict=True):
        want = wave[slice(*span)] if len(span) > 1 else wave[span[0] :]
        np.testing.assert_array_equal(clip, (want / np.float32(0.8) * np.float32(0.95))[:LENGTH])


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_one_reading_serves_all_clips_as_a_reading_of_the_whole_does(tmp_path, rate_hz, mode):
    path, spec = tmp_path / "a.flac", AudioSpec(mode, 0.64)
    soundfile.write(path, noise(2 * rate_hz, 2), rate_hz, subtype="PCM_24")
    sound, spans = read_audio(path), [(rate_hz, 2 * rate_hz), (0, rate_hz), (rate_hz // 2,)]
    for span, clip in zip(spans, clips_of(path, *spans, spec=spec), strict=True):
        assert clip.shape == (spec.num_samples,)
        cut = normalise_peak(sound.wave[slice(*span) if len(span) > 1 else slice(span[0], None)], sound.file_peak)
        assert torch.equal(clip, fit_length(resample(cut, rate_hz, spec.rate_hz), spec))


def test_only_what_can_reach_a_clip_is_kept(tmp_path, monkeypatch):
    """Of a span much longer than a clip the rest cannot be told from silence, but its peak counts."""
    wave = noise(40 * 8000)[:, 0]
    wave[: 3 * 8000] = 0
    write_wav(tmp_path / "a.wav", wave, 8000)
    (kept,) = clips_of(tmp_path / "a.wav", (2 * 8000,))
    (end,) = clips_of(tmp_path / "a.wav", (8 * 8000,))
    monkeypatch.setattr(reading, "_samples_needed", lambda rate_hz, spec: 10**9)
    (whole,) = clips_of(tmp_path / "a.wav", (2 * 8000,))
    assert kept.abs().max() < 1e-3  # silent as far as it is used, but the span is not
    torch.testing.assert_close(kept, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(end, clips_of(tmp_path / "a.wav", (8 * 8000,))[0], atol=1e-6, rtol=0)


SUBTYPES = [("wav", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
SUBTYPES += [("flac", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24")]


@pytest.mark.parametrize(("suffix", "subtype"), SUBTYPES)
@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_every_kind_of_file(tmp_path, suffix, subtype, num_channels, small_blocks):
    path, channels = tmp_path / f"a.{suffix}", noise(RATE_HZ, num_channels)
    soundfile.write(path, channels, RATE_HZ, subtype=subtype)
    mean = channels.mean(axis=1)
    for span, clip in zip(((3000,), (0, 12_000)), clips_of(path, (3000,), (0, 12_000)), strict=True):
        want = mean[slice(*span)] if len(span) > 1 else mean[3000:]
        np.testing.assert_allclose(clip, (want / np.abs(mean).max() * 0.95)[:LENGTH], atol=5e-2 if "8" in subtype else 1e-3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_name_does_not_decide_what_a_file_is(tmp_path, kind, suffix):
    path, wave = tmp_path / f"a.{suffix}", 0.5 * np.sin(np.arange(2 * RATE_HZ) / 9)
    soundfile.write(path, wave, RATE_HZ, format=kind)
    first, second = clips_of(path, (0, 16_000), (16_000, 32_000))
    assert first.shape == second.shape == (LENGTH,)
    np.testing.assert_allclose(first[2000:8000], 0.95 * np.sin(np.arange(2000, 8000) / 9), atol=0.2)


def test_level_is_set_by_the_whole_file(tmp_path):
    wave = np.full(32_000, 0.1, np.float32)
    wave[-1] = -0.5
    write_wav(tmp_path / "a.wav", wave, 16_000)
    (clip,) = clips_of(tmp_path / "a.wav", (0, 16_000))
    np.testing.assert_allclose(clip, 0.1 / 0.5 * 0.95, atol=1e-4)


def test_a_silent_clip_of_a_loud_file_is_refused_alone(tmp_path, small_blocks):
    wave = np.zeros(64_000, np.float32)
    wave[16_000:32_000], wave[47_999] = 0.5, 1.1e-6
    soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype="FLOAT")
    clips = clips_of(tmp_path / "a.wav", (0, 16_000), (16_000, 32_000), (32_000, 47_999), (32_000, 48_000), (0, 16_001))
    silent = "silent: the largest sample of the clip is 0.0e+00"
    assert reasons(clips) == [silent, "", silent, "", ""]


def test_a_file_that_is_silent_as_a_whole_is_raised(tmp_path):
    for count in (0, 64_000):
        soundfile.write(tmp_path / "a.wav", np.zeros(count), RATE_HZ)
        with pytest.raises(MediaError, match=r"^silent: the largest sample is 0.0e\+00$"):
            clips_of(tmp_path / "a.wav", (0, 16_000), (16_000, 32_000))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_padding_is_silence_after_the_sound(tmp_path, rate_hz, small_blocks):
    wave = noise(rate_hz)[:, 0]
    soundfile.write(tmp_path / "a.wav", wave, rate_hz, subtype="FLOAT")
    start, length = rate_hz - rate_hz // 4, rate_hz * 7 // 10
    padded = start + length - rate_hz
    (clip,) = clips_of(tmp_path / "a.wav", (start, start + length, padded))
    by_hand = np.concatenate([wave[start:], np.zeros(padded, np.float32)]) / np.abs(wave).max() * np.float32(0.95)
    torch.testing.assert_close(clip, resample(by_hand, rate_hz, 16_000)[:LENGTH], atol=1e-6, rtol=0)
    assert clip[:3900].abs().max() > 0.5 and clip[4100:].abs().max() < 1e-3
    (open_ended,) = clips_of(tmp_path / "a.wav", (start, None, padded))
    assert torch.equal(open_ended, clip)


def test_silence_of_a_padded_clip_is_judged_by_its_sound(tmp_path):
    wave = np.zeros(RATE_HZ, np.float32)
    wave[:8000], wave[-1] = 0.5, 0.01
    write_wav(tmp_path / "a.wav", wave, RATE_HZ)
    heard, silent = clips_of(tmp_path / "a.wav", (9000, 24_000, 8000), (9000, 24_000, 8001))
    assert heard.shape == (LENGTH,)
    assert str(silent) == "silent: the largest sample of the clip is 0.0e+00"


def test_spans_that_the_file_does_not_hold(file):
    path, _ = file
    spans = [
        (0, 32_000),
        (0, 32_001),
        (16_000, 48_000, 16_000),
        (16_000, 48_000, 15_999),
        (32_000, 50_000),
        (32_000,),
        (40_000, 50_000, 9000),
    ]
    changed = "the file has 32000 samples and the clips table wants up to {}: it changed since it was cut"
    wanted = {1: 32_001, 3: 32_001, 4: 50_000, 5: 32_000, 6: 41_000}
    assert reasons(clips_of(path, *spans)) == [changed.format(wanted[at]) if at in wanted else "" for at in range(len(spans))]


def test_reasons_hold_no_samples(file):
    path, _ = file
    for reason in clips_of(path, (0, 100), (0, 32_001)):
        assert isinstance(reason, MediaError) and reason.__traceback__ is None


@pytest.mark.parametrize("span", [(-1, 5), (5, 5), (5, 9, 4), (0, 9, -1)])
def test_spans_without_sound_are_our_own_mistake(span):
    with pytest.raises(ValueError, match="has no sound"):
        Span(*span)


def test_short_clips_say_found_and_wanted(file):
    path, _ = file
    clips = clips_of(path, (0, LENGTH - 160), (0, LENGTH), (32_000 - LENGTH,))
    assert reasons(clips) == ["too short: 0.630 s of sound, want 0.640 s", "", ""]


def test_files_that_cannot_be_read_are_raised(tmp_path):
    path = tmp_path / "a.flac"
    path.touch()
    with pytest.raises(MediaError, match=r"^the file is empty \(0 bytes\)$"):
        clips_of(path, (0, 16_000))
    path.write_text("this is no audio, only words that go on for a while")
    with pytest.raises(MediaError, match=r"^not readable as audio: "):
        clips_of(path, (0, 16_000))
    write_flac(path, 0.5 * np.sin(np.arange(200_000)), RATE_HZ)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"truncated|damaged"):
        clips_of(path, (0, 16_000))  # though this span is whole: the level is unknown
    soundfile.write(path, np.array([0.1, np.inf] * 16_000), RATE_HZ, format="WAV", subtype="FLOAT")
    with pytest.raises(MediaError, match="not finite"):
        clips_of(path, (0, 16_000))


def test_an_hour_is_read_in_little_memory(tmp_path, monkeypatch):
    """115 MB as float32, 29 MB as the file has it; the most that is held is a few blocks and the clips."""
    path, rate_hz = tmp_path / "a.wav", 8000
    with soundfile.SoundFile(path, "w", rate_hz, 1, subtype="PCM_U8") as file:
        for minute in range(60):
            file.write(noise(60 * rate_hz, seed=minute)[:, 0])
    monkeypatch.setattr(sound_files, "BLOCK_SAMPLES", 1 << 16)
    spans = [(0, None), *((minute * 60 * rate_hz, minute * 60 * rate_hz + rate_hz) for minute in range(0, 60, 10))]
    clips_of(path, *spans)  # what is kept once for all
    tracemalloc.start()
    clips = clips_of(path, *spans)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reasons(clips) == [""] * 7
    assert most < 4e6
