"""Which frames are kept, against the exact columns of the published system's cases, and the rules around the ends."""

import gzip
import json
from fractions import Fraction

import pytest

from mmaudio.media.audio import MediaError
from mmaudio.media.frame_selection import FRAME_RULES, ExactPicker, FfmpegPicker, covered_s, exact_seconds, new_picker, pick_frames
from tests.golden.fill import GOLDEN

CASES, FILTERED = (json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes())) for name in ("frame_selection", "fps_filter"))
FILTERED_OF = {case["name"]: case for case in FILTERED}


def times_of(case):
    return [Fraction(pts * case["time_base"][0], case["time_base"][1]) for pts in case["pts"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize(("rate_hz", "stream"), [(8, "clip"), (25, "sync")])
def test_frames_of_the_published_system(case, rate_hz, stream):
    picked = pick_frames(times_of(case), ExactPicker(rate_hz, end_s=exact_seconds(case["end_sec"])))
    assert picked == case[f"{stream}_indices_exact"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_duration_of_the_published_system(case):
    end_s = exact_seconds(case["end_sec"])
    pickers = [ExactPicker(rate_hz, int(end_s * rate_hz), end_s) for rate_hz in (8, 25)]
    for time_s in times_of(case):
        for picker in pickers:
            picker.take(time_s)
    covered = covered_s(pickers, end_s)
    assert float(covered) == case["exact_duration"]
    assert [int(covered * picker.rate_hz) for picker in pickers] == [case["exact_clip"], case["exact_sync"]]


@pytest.mark.parametrize("fps", [13, 14, 15, 23, 24, 25, 30, 50, 60])
def test_an_exact_length_is_kept_by_holding_the_last_frame(fps):
    for rate_hz in (8, 25):
        picker = ExactPicker(rate_hz, 8 * rate_hz, Fraction(8))
        for index in range(8 * fps):
            picker.take(Fraction(index, fps))
        missing = picker.count - picker.filled
        assert picker.finish(None) == missing <= 1
        picker.check("some")
        assert picker.finish(None) == 0  # nothing is missing any more


def test_a_frame_is_held_for_one_output_only():
    picker = ExactPicker(25, 200, Fraction(8))
    for index in range(199 * 4 // 5):  # 20 frames per second, ends before 7.96 s
        picker.take(Fraction(index, 20))
    before = picker.filled
    assert picker.finish(None) == 1
    assert picker.filled == before + 1 < 200
    with pytest.raises(MediaError, match=rf"^too short: {before + 1} of 200 scene frames at 25 per second$"):
        picker.check("scene")


def test_nothing_is_held_without_a_frame():
    assert ExactPicker(8, 64, Fraction(8)).finish(None) == 0


def test_a_frame_after_the_end_fills_no_gap_before_it():
    for last_s, picked in ((3, [0, 1]), (2, [0, 1, 2, 2, 2])):
        assert pick_frames([Fraction(0), Fraction(1, 2), Fraction(last_s)], ExactPicker(2, end_s=Fraction(2))) == picked


def test_count_cuts():
    assert pick_frames([Fraction(n, 10) for n in range(20)], ExactPicker(5, 3)) == [0, 2, 4]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("rate_hz", [8, 25])
def test_frames_of_ffmpegs_filter(case, rate_hz):
    golden, times_s, picker = FILTERED_OF[case["name"]], times_of(case), FfmpegPicker(rate_hz)
    picked = pick_frames(times_s, picker)
    ends_s = 2 * times_s[-1] - times_s[-2] if len(times_s) > 1 else None
    picked += [len(times_s) - 1] * picker.finish(ends_s)
    want = golden[f"fps{rate_hz}"]
    assert picker.filled == len(picked)
    assert picked[: len(want)] == want  # which may end early: there versions of FFmpeg differ
    if want:
        assert picker.first_slot == golden[f"first_out_pts_{rate_hz}"]


def test_the_filter_rounds_halves_away_from_zero():
    assert pick_frames([Fraction(n, 4) for n in (-1, 0, 1, 2, 3)], FfmpegPicker(2)) == [0, 1, 3]  # slots -1 0 1 1 2


@pytest.mark.parametrize(("ends_s", "held"), [(8, 1), (Fraction("8.02"), 2), (9, 26), (7, 0), (None, 1)])
def test_the_filter_holds_the_last_frame_until_the_rounded_end(ends_s, held):
    picker = FfmpegPicker(25)
    assert pick_frames([Fraction(n, 25) for n in range(200)], picker) == list(range(199))
    assert picker.finish(ends_s) == held


def test_no_more_than_the_count_is_filled_by_the_filter():
    picker = FfmpegPicker(25, 200)
    assert pick_frames([Fraction(0), Fraction(100)], picker) == [0] * 200
    assert picker.is_done and picker.finish(Fraction(200)) == 0


def test_rules_have_names():
    assert [type(new_picker(rule, 8, 64, Fraction(8))) for rule in FRAME_RULES] == [ExactPicker, FfmpegPicker]
    with pytest.raises(ValueError, match=r"^frame_rule is 'nearest'; want one of exact, ffmpeg$"):
        new_picker("nearest", 8, 64, Fraction(8))
    assert FfmpegPicker(8).finish(Fraction(1)) == 0  # nothing is held without a frame
