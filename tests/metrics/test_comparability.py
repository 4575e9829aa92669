"""Results are comparable where their protocols are alike, field by field."""

import pytest

from mmaudio.metrics.results import flat, unlike_fields

ONE = {"version": 1, "sound": {"rate_hz": 16000}, "engine": "own"}


def test_a_protocol_is_flat_by_dotted_names():
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": {}}) == {"a.b.c": 1, "a.d": [2], "e": {}}


@pytest.mark.parametrize("protocols", [[], [ONE], [ONE, {**ONE}, {**ONE, "version": 1.0}]])
def test_like_protocols(protocols):
    assert unlike_fields(protocols) == {}


def test_every_unlike_field_is_told_with_its_value_in_each():
    other = {"version": 1, "sound": {"rate_hz": 44100}, "engine": "é", "seed": None}
    assert unlike_fields([ONE, other]) == {
        "sound.rate_hz": ["16000", "44100"],
        "engine": ['"own"', '"é"'],
        "seed": ["not told", "null"],
    }


@pytest.mark.parametrize("part", ["metrics", "judges"])
def test_of_metrics_and_judges_only_what_several_used_has_to_be_alike(part):
    a, b, c = ({part: entries} for entries in ({"x": 1}, {"x": 1, "y": 1}, {"y": 2}))
    assert unlike_fields([a, b]) == unlike_fields([a, c]) == unlike_fields([a, {part: {}}]) == unlike_fields([a, {}]) == {}
    assert unlike_fields([a, b, c]) == {f"{part}.y": ["not told", "1", "2"]}
