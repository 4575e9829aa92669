"""Written videos: what comes back, the same bytes every time, and a new sound under untouched pictures."""

from fractions import Fraction

import av
import numpy as np
import pytest

from mmaudio.media.audio import MediaError
from mmaudio.media.mp4 import mux_sound, write_video
from mmaudio.media.video import read_silent_video, read_sound_track
from tests.media.made_videos import RATE_HZ, clicks, copy_packets, counting_frames, levels, make_video, picture_packets, turned


def test_a_written_video_comes_back(tmp_path):
    path = make_video(tmp_path / "new folder" / "a.mp4", 1.2, 25, clicks(1.2, 0.4))
    with av.open(str(path)) as container:
        picture, sound = container.streams
        assert (picture.codec_context.name, picture.codec_context.pix_fmt, sound.codec_context.name) == ("h264", "yuv420p", "aac")
        assert (picture.average_rate, picture.frames) == (25, 30)
        assert (sound.rate, sound.channels) == (RATE_HZ, 1)
        assert sound.duration * sound.time_base == pytest.approx(1.2, abs=1e-3)
    assert levels(read_silent_video(path, 1.2).sync_u8) == list(range(30))
    wave = read_sound_track(path).wave
    assert np.argmax(np.abs(wave) > 0.4) / RATE_HZ == pytest.approx(0.4, abs=0.001)
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first, second = (make_video(tmp_path / name, 1.2, 25, clicks(1.2, 0.4)).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert first == second


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(MediaError, match=r"^no frames to write$"):
        write_video(tmp_path / "a.mp4", [], 25)
    with pytest.raises(MediaError, match="47 x 32 pixels"):
        write_video(tmp_path / "a.mp4", counting_frames(2, width=47), 25)
    with pytest.raises(ValueError, match="belong together"):
        write_video(tmp_path / "a.mp4", counting_frames(2), 25, clicks(1.0))
    with pytest.raises(ValueError, match="not finite"):
        write_video(tmp_path / "a.mp4", counting_frames(2), 25, [np.nan], RATE_HZ)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(tmp_path):
    path = make_video(tmp_path / "a.mp4", 0.4)
    before = path.read_bytes()

    def failing():
        yield from counting_frames(3)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_video(path, failing(), 25)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("wave_s", [0.5, 1.4, 3.0])
def test_new_sound_under_the_same_pictures(tmp_path, wave_s):
    source = make_video(tmp_path / "a.mp4", 1.4, 25, clicks(1.4, 1.0))
    mux_sound(source, clicks(wave_s, 0.3), RATE_HZ, tmp_path / "b.mp4")
    assert picture_packets(tmp_path / "b.mp4") == picture_packets(source)
    with av.open(str(tmp_path / "b.mp4")) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.channels) == ("aac", 1)
        assert sound.duration * sound.time_base == pytest.approx(1.4, abs=1 / 25)
    wave = np.abs(read_sound_track(tmp_path / "b.mp4").wave)
    assert np.argmax(wave > 0.4) / RATE_HZ == pytest.approx(0.3, abs=0.001)
    assert wave[RATE_HZ:].max() < 0.01  # nothing of the old sound


@pytest.mark.parametrize("late_s", [0.48, -0.48])
def test_new_sound_keeps_the_clock_of_the_pictures(tmp_path, late_s):
    source = copy_packets(make_video(tmp_path / "made.mp4", 2.0), tmp_path / "a.mp4", {"video": Fraction(str(late_s))})
    mux_sound(source, clicks(2.0, 0.3), RATE_HZ, tmp_path / "b.mp4")
    packets, wanted = picture_packets(tmp_path / "b.mp4"), picture_packets(source)
    assert [packet[0] for packet in packets] == [packet[0] for packet in wanted]
    shown = [levels(read_silent_video(path, 1.2).sync_u8) for path in (source, tmp_path / "b.mp4")]
    assert shown[0] == shown[1]
    wave = np.abs(read_sound_track(tmp_path / "b.mp4").wave)
    assert np.argmax(wave > 0.4) / RATE_HZ == pytest.approx(0.3, abs=0.001)


def test_sound_and_picture_lie_side_by_side(tmp_path):
    mux_sound(make_video(tmp_path / "a.mp4", 12.0), clicks(12.0, 1.0), RATE_HZ, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        order = [(p.stream.type, float(p.dts * p.time_base)) for p in container.demux() if p.dts is not None]
    heard = 0.0
    for kind, time_s in order:
        heard = time_s if kind == "audio" else heard
        assert kind == "audio" or abs(time_s - heard) < 1.5


def test_a_turn_is_kept(tmp_path):
    path = turned(make_video(tmp_path / "a.mp4", 1.0))
    mux_sound(path, clicks(1.0), RATE_HZ, tmp_path / "b.mp4")
    turns = []
    for file in (path, tmp_path / "b.mp4"):
        with av.open(str(file)) as container:
            turns.append(next(container.decode(video=0)).rotation)
    assert turns[0] == turns[1] == -90


def test_files_that_cannot_get_a_sound_say_why(tmp_path):
    source, target = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with pytest.raises(MediaError, match="no file at"):
        mux_sound(source, clicks(1.0), RATE_HZ, target)
    source.write_bytes(b"only words " * 50)
    with pytest.raises(MediaError, match="not a media file"):
        mux_sound(source, clicks(1.0), RATE_HZ, target)
    made = make_video(tmp_path / "made.mp4", 1.0, 25, clicks(1.0))
    copy_packets(made, source, {}, keep=("audio",))
    with pytest.raises(MediaError, match="no picture"):
        mux_sound(source, clicks(1.0), RATE_HZ, target)
    assert not target.exists()


def write_webm(path, codec):
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in counting_frames(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_other_codecs_are_copied_or_refused(tmp_path):
    write_webm(tmp_path / "a.webm", "libvpx-vp9")
    mux_sound(tmp_path / "a.webm", clicks(1.0), RATE_HZ, tmp_path / "a.mp4")
    assert [p[2] for p in picture_packets(tmp_path / "a.mp4")] == [p[2] for p in picture_packets(tmp_path / "a.webm")]
    write_webm(tmp_path / "b.webm", "libvpx")
    with pytest.raises(MediaError, match=r"^its picture is vp8, which an \.mp4 cannot hold"):
        mux_sound(tmp_path / "b.webm", clicks(1.0), RATE_HZ, tmp_path / "b.mp4")
