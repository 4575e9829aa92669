"""One pass over a file: opened once, and nothing is read that no track wants any more."""

from collections import Counter

import av
import numpy as np
import pytest

from mmaudio.base.specs import AudioSpec
from mmaudio.media import containers
from mmaudio.media.video import read_silent_video, read_sound_track, read_video
from tests.media.made_videos import RATE_HZ, clicks, make_video, write_pcm

SPEC = AudioSpec("16k", 0.64)
PICTURE_PACKETS, SOUND_PACKETS = 100, 1 + 4 * RATE_HZ // 1024 + 1  # AAC has blocks of 1024 samples


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    wave = clicks(4.0, 0.3, level=0.4)
    wave[-RATE_HZ // 2 :] = 0.7
    return make_video(tmp_path_factory.mktemp("once") / "a.mp4", 4.0, 25, wave)


@pytest.fixture
def handed_out(monkeypatch):
    """How many packets of each kind were handed out, and how often a file was opened."""
    counts = Counter()
    known, opened = containers.of_known_tracks, av.open

    def count_packets(items):
        for item in known(items):
            counts[item.stream.type] += item.dts is not None
            yield item

    def count_opening(*args, **options):
        counts["opened"] += 1
        return opened(*args, **options)

    monkeypatch.setattr(containers, "of_known_tracks", count_packets)
    monkeypatch.setattr(containers.av, "open", count_opening)
    return counts


def test_the_picture_ends_early_and_the_sound_goes_on_for_its_peak(path, handed_out):
    read_video(path, SPEC, with_sound=True)
    assert handed_out["opened"] == 1
    assert 16 <= handed_out["video"] < 45 < PICTURE_PACKETS  # the encoder looks some frames ahead
    assert abs(handed_out["audio"] - SOUND_PACKETS) <= 1


def test_both_end_early_where_no_peak_is_wanted(path, handed_out):
    read_video(path, SPEC, with_sound=True, normalise=False)
    assert handed_out["opened"] == 1
    assert handed_out["video"] < 45 and handed_out["audio"] < 30


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: read_video(path, SPEC, with_sound=False), "video"),
        (lambda path: read_silent_video(path, 0.64), "video"),
        (lambda path: read_sound_track(path, 0.64), "audio"),
    ],
)
def test_a_track_that_nobody_wants_is_not_read(path, handed_out, read, kind):
    read(path)
    assert set(handed_out) == {"opened", kind}


def test_all_readings_agree(path):
    media, silent = read_video(path, SPEC, with_sound=True), read_silent_video(path, 0.64)
    assert media.clip_u8.equal(silent.clip_u8) and media.sync_u8.equal(silent.sync_u8)
    sound = read_sound_track(path)
    np.testing.assert_allclose(media.wave, sound.wave[: SPEC.num_samples] / sound.file_peak * 0.95, atol=1e-6)
    plain = read_video(path, SPEC, with_sound=True, normalise=False)
    np.testing.assert_array_equal(plain.wave, sound.wave[: SPEC.num_samples])


@pytest.mark.parametrize("first", ["video", "audio"])
def test_tracks_need_not_lie_side_by_side(tmp_path, first):
    """In a .mkv packets are read as they lie in the file."""
    source = write_pcm(tmp_path / "a.mov", 0.5 * np.random.default_rng(2).uniform(-1, 1, (1, 2 * RATE_HZ)))
    options = {"max_interleave_delta": "1", "avoid_negative_ts": "disabled"}
    with av.open(str(source)) as reading, av.open(str(tmp_path / "a.mkv"), "w", options=options) as writing:
        copies = {stream.type: writing.add_stream_from_template(stream) for stream in reading.streams}
        packets = [packet for packet in reading.demux() if packet.dts is not None]
        for packet in sorted(packets, key=lambda packet: packet.stream.type != first):
            packet.stream = copies[packet.stream.type]
            writing.mux_one(packet)
    with av.open(str(tmp_path / "a.mkv")) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.dts is not None]
    assert set(kinds[:30]) == {first}  # nearly all of its packets
    media, want = (read_video(path, SPEC, with_sound=True) for path in (tmp_path / "a.mkv", source))
    assert media.sync_u8.equal(want.sync_u8) and media.wave.equal(want.wave)
