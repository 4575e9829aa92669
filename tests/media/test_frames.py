"""Which frames are kept, against the exact columns of the published system's cases, and the rules around the ends."""

import gzip
import json
from fractions import Fraction

import pytest

from mmaudio.media.audio import MediaError
from mmaudio.media.frames import FramePicker, covered_s, exact_seconds, pick_frames
from tests.golden.fill import GOLDEN

CASES = json.loads(gzip.decompress((GOLDEN / "frame_selection.json.gz").read_bytes()))


def times_of(case):
    return [Fraction(pts * case["time_base"][0], case["time_base"][1]) for pts in case["pts"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize(("rate_hz", "stream"), [(8, "clip"), (25, "sync")])
def test_frames_of_the_published_system(case, rate_hz, stream):
    picked = pick_frames(times_of(case), rate_hz, exact_seconds(case["end_sec"]))
    assert picked == case[f"{stream}_indices_exact"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_duration_of_the_published_system(case):
    end_s = exact_seconds(case["end_sec"])
    pickers = [FramePicker(rate_hz, end_s, int(end_s * rate_hz)) for rate_hz in (8, 25)]
    for time_s in times_of(case):
        for picker in pickers:
            picker.take(time_s)
    covered = covered_s(pickers, end_s)
    assert float(covered) == case["exact_duration"]
    assert [int(covered * picker.rate_hz) for picker in pickers] == [case["exact_clip"], case["exact_sync"]]


@pytest.mark.parametrize("fps", [13, 14, 15, 23, 24, 25, 30, 50, 60])
def test_an_exact_length_is_kept_by_holding_the_last_frame(fps):
    for rate_hz in (8, 25):
        picker = FramePicker(rate_hz, Fraction(8), 8 * rate_hz)
        for index in range(8 * fps):
            picker.take(Fraction(index, fps))
        missing = picker.count - picker.filled
        assert picker.hold() == missing <= 1
        picker.check("some")
        assert picker.hold() == 0  # nothing is missing any more


def test_a_frame_is_held_for_one_output_only():
    picker = FramePicker(25, Fraction(8), 200)
    for index in range(199 * 4 // 5):  # 20 frames per second, ends before 7.96 s
        picker.take(Fraction(index, 20))
    before = picker.filled
    assert picker.hold() == 1
    assert picker.filled == before + 1 < 200
    with pytest.raises(MediaError, match=rf"^too short: {before + 1} of 200 scene frames at 25 per second$"):
        picker.check("scene")


def test_nothing_is_held_without_a_frame():
    assert FramePicker(8, Fraction(8), 64).hold() == 0


def test_a_frame_after_the_end_fills_no_gap_before_it():
    assert pick_frames([Fraction(0), Fraction(1, 2), Fraction(3)], 2, end_s=Fraction(2)) == [0, 1]
    assert pick_frames([Fraction(0), Fraction(1, 2), Fraction(2)], 2, end_s=Fraction(2)) == [0, 1, 2, 2, 2]


def test_count_cuts():
    assert pick_frames([Fraction(n, 10) for n in range(20)], 5, count=3) == [0, 2, 4]
