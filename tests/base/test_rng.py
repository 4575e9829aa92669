"""Counter-based randomness: known answers of Random123, distributions, and that nothing but the arguments matters."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mmaudio.base.rng import CounterRng, permutation, philox, text_item

# Philox-4x32-10 in the kat_vectors file of Random123 (Salmon et al. 2011): counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
FIRST = torch.arange(8)


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_gives_the_known_answers(counter, key, result):
    found = philox(tuple(torch.tensor(word) for word in words(counter)), tuple(words(key)))
    assert [int(word) for word in found] == words(result)


def test_philox_is_that_of_integers_without_bounds():

    def plain(counter, key):
        for _ in range(10):
            one, other = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
            counter = ((other >> 32) ^ counter[1] ^ key[0], other % 2**32, (one >> 32) ^ counter[3] ^ key[1], one % 2**32)
            key = ((key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32)
        return counter

    counters = np.random.default_rng(0).integers(0, 2**32, (200, 6))
    for row in counters.tolist():
        found = philox(tuple(torch.tensor(word) for word in row[:4]), tuple(row[4:]))
        assert tuple(int(word) for word in found) == plain(tuple(row[:4]), tuple(row[4:]))


def test_normals_are_standard_normal():
    values = CounterRng(seed=1, step=2, items=torch.arange(64)).normals("noise", 125, 64).flatten().numpy().astype(np.float64)
    count = len(values)  # 512,000: bounds are five standard errors
    assert abs(values.mean()) < 5 / math.sqrt(count)
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((values**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(values).max() < 5.8


def test_uniforms_are_uniform():
    values = CounterRng(seed=1, step=2, items=torch.arange(64)).uniforms("drop", 4000).flatten()
    assert values.min() >= 0
    assert values.max() < 1
    assert torch.equal(values * 2**24, (values * 2**24).round())
    assert stats.kstest(values.numpy(), "uniform").pvalue > 1e-3
    assert abs(values.double().mean() - 0.5) < 5 / math.sqrt(12 * len(values))


@pytest.mark.parametrize("draw", ["uniforms", "normals"])
def test_shapes(draw):
    items = torch.tensor([3, 1])
    for shape in [(), (1,), (5,), (2, 3), (0,)]:
        found = getattr(CounterRng(0, 0, items), draw)("x", *shape)
        assert found.shape == (2, *shape)
        assert found.dtype == torch.float32


@pytest.mark.parametrize("draw", ["uniforms", "normals"])
def test_an_items_numbers_depend_on_nothing_but_the_item(draw):
    whole = getattr(CounterRng(7, 5, FIRST), draw)("noise", 6, 5)
    for items in ([5, 2], [2], [7, 6, 5, 4, 3, 2, 1, 0]):
        assert torch.equal(getattr(CounterRng(7, 5, torch.tensor(items)), draw)("noise", 6, 5), whole[items])
    assert torch.equal(getattr(CounterRng(7, 5, FIRST), draw)("noise", 12), whole.flatten(1)[:, :12])


def others():
    yield "seed", CounterRng(8, 5, FIRST), "noise"
    yield "high half of the seed", CounterRng(7 + 2**32, 5, FIRST), "noise"
    yield "step", CounterRng(7, 6, FIRST), "noise"
    yield "stream", CounterRng(7, 5, FIRST), "posterior"
    yield "item", CounterRng(7, 5, FIRST + 8), "noise"


@pytest.mark.parametrize(("what", "draws", "stream"), list(others()), ids=lambda value: value if isinstance(value, str) else "")
def test_another_seed_step_stream_or_item_gives_independent_numbers(what, draws, stream):
    one = CounterRng(7, 5, FIRST).normals("noise", 5000).flatten().double()
    other = draws.normals(stream, 5000).flatten().double()
    assert (one == other).double().mean() < 1e-3
    assert abs((one * other).mean()) < 5 / math.sqrt(len(one))


def test_items_of_one_draw_are_independent():
    values = CounterRng(0, 0, torch.arange(12)).normals("noise", 20000).double()
    correlation = values @ values.T / values.shape[1]
    assert (correlation - torch.eye(12)).abs().max() < 5 * math.sqrt(2 / values.shape[1])
    assert len(CounterRng(0, 0, torch.arange(2**16)).uniforms("x").unique()) > 65_000


def test_a_recorded_answer():
    """The noise of a step is for ever: a resumed run may have been started by another release."""
    assert CounterRng(14159265, 3, torch.tensor([2])).uniforms("noise", 3)[0].mul(2**24).int().tolist() == RECORDED


RECORDED = [829272, 14955638, 4427885]


def test_any_seed_and_step_is_allowed():
    for seed in (0, -1, 2**31, 2**63, 2**64 - 1):
        assert torch.isfinite(CounterRng(seed, 2**33, FIRST).normals("x", 3)).all()


def test_text_item():
    ids = ["00008004", "8004", "", "\N{DOG FACE}", "\udce9"]
    items = [text_item(row_id) for row_id in ids]
    assert len(set(items)) == len(ids)
    assert all(0 <= item < 2**32 for item in items)
    assert items[0] == 0x2D161F5


@pytest.mark.parametrize("num_items", [0, 1, 7, 1000])
def test_permutation_is_one(num_items):
    for epoch in range(3):
        assert sorted(permutation(num_items, 5, epoch)) == list(range(num_items))


def test_permutation_depends_on_seed_and_epoch_alone():
    orders = {(seed, epoch): tuple(permutation(50, seed, epoch)) for seed in (0, 1, 2**63, 2**64 - 1) for epoch in range(3)}
    assert len(set(orders.values())) == len(orders)  # large seeds stay apart, too
    assert all(tuple(permutation(50, *key)) == order for key, order in orders.items())
    assert np.array_equal(permutation(50, -1, 0), permutation(50, 2**64 - 1, 0))
