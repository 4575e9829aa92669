"""The benchmark of generation, on a small network and a short sound: every part is timed, and what it counts is known."""

import pytest
import torch

from benchmarks.generation import COLUMNS, Case, cases_for, cells, forward_flops, measure


def test_operations_of_a_forward_pass():
    one, two = forward_flops("small_16k", 1), forward_flops("small_16k", 2)
    assert two == 2 * one
    assert one == pytest.approx(61.26e9, rel=0.12), "less than published by the projections of conditions, and by modulations a row"


@pytest.mark.slow
def test_every_part_is_timed():
    case = Case("tiny_16k", 1, decoded_s=0.1)
    parts = measure(case, torch.device("cpu"))
    assert min(parts.conditions_s, parts.step_s, parts.two_calls_s, parts.plain_step_s, parts.decode_s, parts.floor_step_s) > 0
    assert parts.whole_s is None and parts.sum_s > 25 * parts.step_s
    assert len(cells(case, parts)) == len(COLUMNS)
    assert [case.variant for case in cases_for(torch.device("cpu"))] == ["small_16k"]
