"""Pictures encoded anew: what an .mp4 cannot hold, odd sides, turns and uneven times."""

import av
import numpy as np
import pytest

from mmaudio.media.audio import MediaError
from mmaudio.media.reencoding import even_sides, reencode_with_sound
from tests.media.made_videos import RATE_HZ, clicks, counting_frames, make_video, turned
from tests.media.test_mp4_muxing import UNEVEN_MS, make, shown


def check(source, target, width=64, height=48):
    reencode_with_sound(source, clicks(9.0, 0.3), RATE_HZ, target)
    frames, wanted = shown(target), shown(source)
    assert [time for time, _ in frames] == [time for time, _ in wanted]
    with av.open(str(target)) as container:
        picture, sound = container.streams
        assert (picture.codec_context.name, picture.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (picture.width, picture.height) == (width, height)
        longest_s = max(after[0] - before[0] for before, after in zip(frames, frames[1:], strict=False))
        assert 0 <= sound.duration * sound.time_base - frames[-1][0] <= longest_s + 0.01
    return frames, wanted


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.webm", {"codec": "libvpx"}),
        ("a.mov", {"codec": "qtrle", "pixel_format": "rgb24"}),
        ("a.mkv", {"codec": "libx264", "times_ms": UNEVEN_MS}),
    ],
)
def test_times_and_pixels_stay(tmp_path, name, how):
    frames, wanted = check(make(tmp_path / name, **how), tmp_path / "b.mp4")
    assert max(np.abs(found[1].astype(int) - want[1]).mean() for found, want in zip(frames, wanted, strict=True)) < 4


def test_odd_sides_grow_by_one(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuv420p"
        for pixels in counting_frames(10, 33, 47):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    frames, wanted = check(tmp_path / "a.webm", tmp_path / "b.mp4", 48, 34)
    assert abs(float(frames[5][1].mean()) - float(wanted[5][1].mean())) < 3
    assert even_sides(np.zeros((2, 4, 3), np.uint8)).shape == (2, 4, 3)


def test_a_turn_is_carried_out(tmp_path):
    path = turned(make_video(tmp_path / "a.mp4", 0.4))
    check(path, tmp_path / "b.mp4", 32, 48)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(MediaError, match="no file at"):
        reencode_with_sound(tmp_path / "a.mp4", clicks(1.0), RATE_HZ, tmp_path / "b.mp4")
    (tmp_path / "a.mp4").write_bytes(b"only words " * 50)
    with pytest.raises(MediaError, match="not a media file"):
        reencode_with_sound(tmp_path / "a.mp4", clicks(1.0), RATE_HZ, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
