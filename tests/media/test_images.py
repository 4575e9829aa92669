"""Images of every kind: what the scene encoder sees, upright and in colour, and the video of one that stays."""

import av
import numpy as np
import pytest
from PIL import Image

from mmaudio.media.audio import MediaError
from mmaudio.media.images import LONGEST_SIDE_PX, read_still, write_still_video
from tests.media.made_videos import RATE_HZ, clicks


def halves(width=30, height=20, left=(200, 40, 40), right=(40, 40, 200)):
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return Image.fromarray(pixels)


def corner(still, vertical, horizontal):
    return still.clip_u8[0, :, vertical, horizontal].tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_of_any_kind(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    halves().convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    still = read_still(path)
    assert still.clip_u8.shape == (1, 3, 384, 384) and still.picture_u8.shape == (20, 30, 3)
    for place, wanted in ((0, (200, 40, 40)), (383, (40, 40, 200))):
        assert np.abs(np.array(corner(still, 200, place)) - wanted).max() < 8


def test_grey_and_transparent(tmp_path):
    Image.new("L", (10, 10), 77).save(tmp_path / "grey.png")
    assert corner(read_still(tmp_path / "grey.png"), 5, 5) == [77] * 3
    Image.fromarray(np.full((10, 10), 77 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert corner(read_still(tmp_path / "deep.png"), 5, 5) == [77] * 3
    Image.new("1", (10, 10), 1).save(tmp_path / "bits.png")
    assert corner(read_still(tmp_path / "bits.png"), 5, 5) == [255] * 3
    clear = halves().convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    assert corner(read_still(tmp_path / "clear.png"), 5, 5) == [200, 40, 40]
    halves().convert("P").save(tmp_path / "palette.png", transparency=b"\0\1\2")
    assert read_still(tmp_path / "palette.png").picture_u8.shape == (20, 30, 3)


def test_turned_as_the_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: what is left is then above
    halves().save(tmp_path / "a.png", exif=exif)
    still = read_still(tmp_path / "a.png")
    assert still.picture_u8.shape == (30, 20, 3)
    assert (corner(still, 0, 200), corner(still, 383, 200)) == ([200, 40, 40], [40, 40, 200])


def test_what_is_no_image(tmp_path):
    with pytest.raises(MediaError, match="no file at"):
        read_still(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"only words " * 50)
    with pytest.raises(MediaError, match="not an image"):
        read_still(tmp_path / "a.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with pytest.raises(MediaError, match="the image is damaged"):
        read_still(tmp_path / "a.png")
    Image.new("L", (6500, 10)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="6500 x 10 pixels, which is none to be believed"):
        read_still(tmp_path / "a.png")


def test_the_video_of_an_image(tmp_path):
    halves(31, 21).save(tmp_path / "a.png")
    still = read_still(tmp_path / "a.png")
    write_still_video(tmp_path / "a.mp4", still, 2.5, clicks(2.5, 0.3), RATE_HZ)
    with av.open(str(tmp_path / "a.mp4")) as container:
        picture, sound = container.streams
        assert (picture.width, picture.height, picture.frames, picture.average_rate) == (32, 22, 2, 1)
        assert sound.duration * sound.time_base == pytest.approx(2.5, abs=0.01)
    halves(4000, 100).save(tmp_path / "b.png")
    assert read_still(tmp_path / "b.png").picture_u8.shape == (48, LONGEST_SIDE_PX, 3)
