"""Who is told which condition: what is absent, what is dropped for guidance, what a run does without."""

import pytest
import torch

from mmaudio.base.rng import CounterRng
from mmaudio.flow.guidance import ConditionDropout, DropoutDraws, PresentRows, choose_present, draw_dropout

MANY = 20_000


def flags(told: PresentRows) -> torch.Tensor:
    return told.source > 0


def test_rows_and_sources_point_at_each_other():
    told = PresentRows.of(torch.tensor([True, False, True, True, False]))
    assert told.rows.tolist() == [0, 2, 3]
    assert told.source.tolist() == [1, 0, 2, 3, 0]
    table = torch.cat([torch.tensor([-1]), torch.arange(10, 15)[told.rows]])
    assert table[told.source].tolist() == [10, -1, 12, 13, -1]


def test_features_may_have_rows_for_some_samples_only():
    exist, u = torch.tensor([False, True, True, False, True]), torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    told = choose_present(exist, torch.ones(5, dtype=torch.bool), DropoutDraws(u, u, u), ConditionDropout()).among_videos(exist)
    assert told.clip.rows.tolist() == told.sync.rows.tolist() == [0, 2]  # of the rows of samples 1, 2 and 4
    assert told.clip.source.tolist() == [0, 1, 0, 0, 2]
    assert told.text.rows.tolist() == [0, 1, 3, 4]
    nobody = PresentRows.of(torch.zeros(3, dtype=torch.bool)).among(torch.zeros(3, dtype=torch.bool))
    assert nobody.rows.tolist() == [] and nobody.rows.dtype == torch.int64


def test_absent_rows_are_not_told():
    exist = torch.tensor([True, False])
    keep = torch.ones(2)
    told = choose_present(exist, ~exist, DropoutDraws(keep, keep, keep), ConditionDropout())
    assert [flags(each).tolist() for each in (told.clip, told.sync, told.text)] == [[True, False], [True, False], [False, True]]


def test_joint_and_independent_sampling():
    exist = torch.ones(MANY, dtype=torch.bool)
    draws = draw_dropout(CounterRng(3, 5, torch.arange(MANY)))
    joint = choose_present(exist, exist, draws, ConditionDropout(0.25))
    assert torch.equal(flags(joint.clip), flags(joint.sync))
    alone = choose_present(exist, exist, draws, ConditionDropout(0.25, "independent"))
    clip, sync, text = (~flags(each) for each in (alone.clip, alone.sync, alone.text))
    assert torch.equal(clip, ~flags(joint.clip))  # only sync decides anew
    for dropped in (clip, sync, text):
        assert abs(dropped.float().mean() - 0.25) < 0.01
    for one, other in ((clip, sync), (clip, text), (sync, text)):
        assert abs((one & other).float().mean() - 0.25**2) < 0.01


def test_a_run_can_do_without_a_condition():
    exist, keep = torch.ones(3, dtype=torch.bool), torch.ones(3)
    told = choose_present(exist, exist, DropoutDraws(keep, keep, keep), ConditionDropout(dropped=("sync",)))
    assert [len(each.rows) for each in (told.clip, told.sync, told.text)] == [3, 0, 3]


def test_no_probability_drops_nothing_and_one_everything():
    exist = torch.ones(MANY, dtype=torch.bool)
    draws = draw_dropout(CounterRng(3, 5, torch.arange(MANY)))
    assert flags(choose_present(exist, exist, draws, ConditionDropout(0.0)).text).all()
    assert not flags(choose_present(exist, exist, draws, ConditionDropout(1.0)).clip).any()


def test_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="sampling is 'jointly'; want joint or independent"):
        ConditionDropout(sampling="jointly")
