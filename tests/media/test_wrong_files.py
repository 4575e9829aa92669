"""Files that are not what their name says, or only part of it: read all the same, or refused for what is true of them."""

import errno
import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import MediaError
from mmaudio.media.video import read_silent_video, read_sound, read_video
from tests.media.made_videos import RATE_HZ, clicks, copy_packets, levels, make_video, write_pcm

SPEC = AudioSpec("16k", 1.28)
NOISE = 0.5 * np.random.default_rng(0).uniform(-1, 1, (2, 2 * RATE_HZ))


def refused(read, path, *args, **options):
    with pytest.raises(MediaError) as caught:
        read(path, *args, **options)
    return str(caught.value)


@pytest.mark.parametrize(("suffix", "late"), [(".mkv", 0), (".mov", 0), (".avi", 1)])
def test_another_kind_of_video_by_the_name_of_mp4(tmp_path, suffix, late):
    """An .avi tells no display times, so with H.264 in it FFmpeg shows all one frame late."""
    path = write_pcm(tmp_path / f"a{suffix}", NOISE).rename(tmp_path / "a.mp4")
    media = read_video(path, SPEC, with_sound=True, normalise=False)
    assert levels(media.sync_u8) == [max(0, n - late) for n in range(32)]
    np.testing.assert_allclose(media.wave, NOISE.mean(axis=0)[: SPEC.num_samples], atol=1e-4)


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16")])
def test_sound_alone_by_the_name_of_mp4(tmp_path, kind, subtype):
    path = tmp_path / "a.mp4"
    soundfile.write(path, NOISE.T, RATE_HZ, format=kind, subtype=subtype)
    for with_sound in (True, False):
        assert refused(read_video, path, SPEC, with_sound=with_sound) == "the file has no picture"
    assert refused(read_silent_video, path, 1.28) == "the file has no picture"
    np.testing.assert_allclose(read_sound(path).wave, NOISE.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(400), b"<html>not found</html>\n" * 40, bytes(4096), b"\x00", b"RIFF"])
def test_no_media_by_the_name_of_mp4(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert refused(read_video, path, SPEC, with_sound=True).startswith("not a media file")


def test_a_video_by_the_name_of_a_recording(tmp_path):
    path = make_video(tmp_path / "a.mp4", 0.8, 25, clicks(0.8, 0.3)).rename(tmp_path / "a.wav")
    assert refused(read_sound, path).startswith("not readable as audio: ")


def test_a_folder_is_no_file(tmp_path):
    assert refused(read_video, tmp_path, SPEC, with_sound=True) == f"no file at {tmp_path}"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read(tmp_path, monkeypatch, number):
    path = make_video(tmp_path / "a.mp4", 0.8)

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    assert refused(read_silent_video, path, 0.64) == f"the file cannot be read ({os.strerror(number)})"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_file_cut_in_the_middle_is_read_or_refused_by_what_is_left(tmp_path, suffix, share):
    """2 s of picture and of noise, of which the first 1.28 s are wanted; most bytes are the noise's, spread evenly."""
    made = make_video(tmp_path / "made.mp4", 2.0, 25, NOISE.mean(axis=0))
    format_name = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}[suffix]
    whole = copy_packets(made, tmp_path / f"whole{suffix}", {}, format_name=format_name).read_bytes()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(whole[: int(share * len(whole))])
    if suffix == ".mp4":  # its index is at the end
        assert refused(read_video, path, SPEC, with_sound=True).startswith("not a media file, or cut off before its index")
    elif share < 0.5:
        assert refused(read_video, path, SPEC, with_sound=True).startswith(("too short: ", "the file is cut off: its "))
        with av.open(str(path)) as container:
            left_s = max(float(p.pts * p.time_base) for p in container.demux(audio=0) if p.pts is not None)
        assert left_s < 1.28
    elif share > 0.8:
        assert len(read_video(path, SPEC, with_sound=True, normalise=False).sync_u8) == 32
