"""Where recordings of known lengths are cut: the published system's numbers, then overlap, padding and what contradicts itself."""

import itertools
import json
from fractions import Fraction

import pytest

from mmaudio.base.errors import UserError
from mmaudio.clips.cutting import PUBLISHED, Cutting, plan_clips
from tests.golden.fill import GOLDEN

CASES = json.loads((GOLDEN / "partition.json").read_text())
LENGTHS = (0, 1, 799, 800, 801, 1599, 1600, 1601, 2399, 2400, 2499, 2500, 4000, 4001, 12_345)


def spans(num_samples, rate_hz, **options):
    return plan_clips(num_samples, rate_hz, Cutting(**options)).spans()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_plan_of_the_published_system(case):
    found = spans(case["num_samples"], case["sample_rate"])
    assert found == [(start, end, 0) for _, start, end in case["segments"]]


@pytest.mark.parametrize("overlap_s", [0, 0.1, 0.25, 0.699])
@pytest.mark.parametrize("length_s", [0.7, 1.25, 8.1, 30.3])
@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100])
def test_plan_holds_what_it_promises(length_s, rate_hz, overlap_s):
    segment, overlap = int(Fraction(str(length_s)) * rate_hz), int(Fraction(str(overlap_s)) * rate_hz)
    for num_samples in (0, segment - 1, segment + 1, 3 * segment - 1, 3 * segment, 17 * segment + 5):
        clips = spans(num_samples, rate_hz, clip_length_s=length_s, overlap_s=overlap_s)
        assert len(clips) == (min(5, 1 + (num_samples - segment) // (segment - overlap)) if num_samples > segment else 0)
        assert all(end - start == segment and padded == 0 for start, end, padded in clips)
        assert all(one[1] - other[0] <= overlap for one, other in itertools.pairwise(clips))
        assert len({other[0] - one[0] for one, other in itertools.pairwise(clips)}) <= 1
        if clips:
            assert clips[0][0] == 0
            assert 0 <= num_samples - clips[-1][1] <= (3 if len(clips) > 1 else num_samples)


def test_one_clip_at_most_and_as_many_as_fit():
    assert spans(10**6, 16000, max_clips=1) == [(0, 129600, 0)]
    assert len(spans(10**6, 16000, max_clips=-1)) == 7
    assert len(spans(10**6, 16000, max_clips=-1, overlap_s=4.05)) == 14


def test_seconds_are_the_decimal_numbers_they_are_written_as():
    assert spans(8100, 1000, clip_length_s=8.1) == [(0, 8100, 0)]  # 8.1 * 1000 is less than 8100 in binary
    assert spans(2700, 1000, clip_length_s=0.9, overlap_s=0.3, max_clips=-1)[:2] == [(0, 900, 0), (600, 1500, 0)]


@pytest.mark.parametrize("overlap_s", [0, 0.3])
@pytest.mark.parametrize("max_clips", [-1, 1, 2, 3])
def test_a_tail_is_padded_once_and_only_where_it_holds_enough(overlap_s, max_clips):
    """Clips of 800 samples, of which the last may be padded if at least 100 samples are new."""
    options = {"clip_length_s": 0.8, "max_clips": max_clips, "overlap_s": overlap_s}
    hop = 800 - int(overlap_s * 1000)
    for num_samples in LENGTHS:
        clips = spans(num_samples, 1000, **options, tail="pad", min_length_s=0.1)
        spread = spans(num_samples, 1000, **options)
        num_whole = 1 + (num_samples - 800) // hop if num_samples >= 800 else 0
        num_new = num_samples - (800 + (num_whole - 1) * hop if num_whole else 0)
        if num_new >= 100 and max_clips in (-1, *range(num_whole + 1, 9)):
            starts = range(0, (num_whole + 1) * hop, hop)
            assert [start for start, _, _ in clips] == list(starts)
            assert all(end - start == 800 for start, end, _ in clips)
            assert [padded for _, _, padded in clips] == [0] * num_whole + [starts[-1] + 800 - num_samples]
            assert 0 < clips[-1][2] < 800
        else:
            assert clips == spread


def test_short_recordings_become_one_padded_clip():
    assert spans(16_000, 16_000, tail="pad") == [(0, 129_600, 113_600)]
    assert spans(15_999, 16_000, tail="pad") == []
    assert spans(89_302, 11_025, tail="pad") == [(0, 89_302, 0)]  # the published rule asks for half a sample more
    assert spans(4_000, 16_000, tail="pad", min_length_s=0.25) == [(0, 129_600, 125_600)]


def test_recordings_shorter_than_wanted_are_not_cut():
    assert spans(159_999, 16_000, min_length_s=10) == []
    assert spans(160_000, 16_000, min_length_s=10) == [(0, 129_600, 0)]
    assert spans(0, 16_000, tail="pad", min_length_s=1e-9) == []


def test_the_published_numbers_are_the_default_and_contradict_nothing():
    assert Cutting() == PUBLISHED
    for cutting in (Cutting(), Cutting(tail="pad", overlap_s=8.0, max_clips=-1), Cutting(min_length_s=60)):
        cutting.check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip_length_s": 0}, "--clip_length is 0; want seconds above 0"),
        ({"clip_length_s": float("nan")}, "--clip_length is nan; want seconds above 0"),
        ({"clip_length_s": float("inf")}, "--clip_length is inf; want seconds above 0"),
        ({"max_clips": 0}, "--max_clips is 0; want 1 or more, or -1 for all that fit"),
        ({"max_clips": -2}, "--max_clips is -2; want 1 or more, or -1 for all that fit"),
        ({"overlap_s": -0.1}, "--overlap is -0.1; want seconds from 0 on"),
        ({"overlap_s": float("nan")}, "--overlap is nan; want seconds from 0 on"),
        ({"overlap_s": 8.1}, "--overlap 8.1 has to be less than --clip_length 8.1"),
        ({"tail": "pda"}, "--tail is 'pda'; want drop or pad (did you mean 'pad'?)"),
        ({"min_length_s": 0, "tail": "pad"}, "--min_length is 0; want seconds above 0"),
        ({"min_length_s": float("nan")}, "--min_length is nan; want seconds above 0"),
        ({"min_length_s": 3.0}, "--min_length is 3.0, below --clip_length 8.1, but --tail drop makes no clip of less; add --tail pad"),
        ({"min_length_s": 9.0, "tail": "pad"}, "--min_length 9.0 is not below --clip_length 8.1, so --tail pad would never pad a clip"),
        ({"clip_length_s": 0.8, "tail": "pad"}, "--min_length 1.0 is not below --clip_length 0.8, so --tail pad would never pad a clip"),
    ],
)
def test_each_contradiction_is_one_sentence(options, said):
    with pytest.raises(UserError) as caught:
        Cutting(**options).check()
    assert len(caught.value.sentences) == 1
    assert caught.value.sentences[0].startswith(said)


def test_all_contradictions_are_told():
    with pytest.raises(UserError) as caught:
        Cutting(-1, 0, -1, "fade", -1).check()
    assert [sentence.split()[0] for sentence in caught.value.sentences] == [
        "--clip_length",
        "--max_clips",
        "--overlap",
        "--tail",
        "--min_length",
    ]
