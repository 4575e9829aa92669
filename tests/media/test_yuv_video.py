"""Clips read as planes give the frames of those read on the host, and what cannot be given as planes is read there."""

import av
import pytest
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import MediaError
from mmaudio.media.frame_selection import FRAME_RULES
from mmaudio.media.mp4 import write_video
from mmaudio.media.video import VideoMedia, read_video
from mmaudio.media.yuv_video import PlanarMedia, read_planar_video
from tests.media.made_videos import clicks, counting_frames

SPEC = AudioSpec("16k", 1.0)
CPU = torch.device("cpu")


@pytest.mark.parametrize("frame_rule", FRAME_RULES)
@pytest.mark.parametrize(("fps", "size"), [(24, (48, 64)), (30, (90, 62)), (5, (34, 46))])
def test_frames_are_those_of_the_host(tmp_path, fps, size, frame_rule):
    path = tmp_path / "a.mp4"
    write_video(path, counting_frames(int(1.3 * fps), *size), fps, clicks(1.3, 0.4), 16_000)
    planar = read_planar_video(path, SPEC, with_sound=True, frame_rule=frame_rule)
    media = read_video(path, SPEC, with_sound=True, frame_rule=frame_rule)
    assert isinstance(planar, PlanarMedia)
    assert len(planar.planes.packed) <= min(33, int(1.3 * fps)), "each source frame once, and only those that are used"
    for found, wanted in zip(planar.frames_on(CPU), media.frames_on(CPU), strict=True):
        assert found.shape == wanted.shape
        assert (found.int() - wanted.int()).abs().max() <= 1
    assert torch.equal(planar.wave, media.wave)


def test_other_pictures_are_read_on_the_host(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        for pixels in counting_frames(32):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    media = read_planar_video(path, SPEC, with_sound=False)
    assert isinstance(media, VideoMedia)
    assert torch.equal(media.clip_u8, read_video(path, SPEC, with_sound=False).clip_u8)


def test_the_room_can_be_used_again_and_its_rows_suffice(tmp_path):
    path, room = tmp_path / "a.mp4", []
    write_video(path, counting_frames(40, 32, 48), 30, clicks(1.4, 0.4), 16_000)

    def given(num_frames, packed_bytes):
        room[:] = room or [torch.empty(num_frames, packed_bytes, dtype=torch.uint8)]
        return room[0]

    once, again = (read_planar_video(path, SPEC, with_sound=False, new_room=given).planes for _ in range(2))
    assert once.packed.data_ptr() == again.packed.data_ptr()
    assert once.packed.shape[0] < room[0].shape[0] == 33


def test_what_is_wrong_is_told_as_on_the_host(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, counting_frames(20, 32, 48), 25, clicks(0.8, 0.4), 16_000)
    for read in (read_video, read_planar_video):
        with pytest.raises(MediaError, match="too short"):
            read(path, SPEC, with_sound=True)
