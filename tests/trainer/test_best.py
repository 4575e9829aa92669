"""The best value of the metric that a run is judged by."""

from mmaudio.trainer.train_state import BestMetric


def test_the_best_value_counts_for_its_own_metric():
    best = BestMetric()
    assert best.take("a", 2.0, 1, higher_is_better=False)
    assert not best.take("a", 2.0, 2, higher_is_better=False)
    assert best.take("a", 1.0, 3, higher_is_better=False)
    assert best.take("b", 0.5, 4, higher_is_better=True)  # another metric begins anew
    assert not best.take("b", 0.4, 5, higher_is_better=True)
    assert best.take("b", 0.6, 6, higher_is_better=True)
    again = BestMetric()
    again.load_state_dict(best.state_dict())
    assert again == best
