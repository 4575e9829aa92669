"""What sounds a run's latents while it trains: loaded once for all stages, and tried again where it cannot be."""

from types import SimpleNamespace

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.ranks import Ranks
from mmaudio.commands.run_backend import RunBackend
from tests.trainer.tiny_stores import tiny_settings


def solver_of(folder, rank=0):
    return SimpleNamespace(settings=tiny_settings(folder, "x"), device=torch.device("cpu"), ranks=Ranks(rank, 2))


@pytest.fixture
def loads(monkeypatch):
    done = []
    monkeypatch.setattr("mmaudio.commands.run_backend.Backend.load", lambda *words: done.append(words) or len(done))
    return done


def test_it_is_loaded_once(tmp_path, loads):
    backend, solver = RunBackend(), solver_of(tmp_path)
    assert loads == []
    assert [backend.here(solver), backend.everywhere(solver), backend.here(solver)] == [1, 1, 1]
    assert len(loads) == 1


def test_it_is_tried_again_where_it_could_not_be_loaded(tmp_path, monkeypatch, loads):
    def fail(*_):
        raise UserError("no ears")

    backend, solver = RunBackend(), solver_of(tmp_path)
    with monkeypatch.context() as deaf:
        deaf.setattr("mmaudio.commands.run_backend.Backend.load", fail)
        for load in (backend.here, backend.everywhere):
            with pytest.raises(UserError, match="no ears"):
                load(solver)
    assert backend.here(solver) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_where_another_rank_has_none_all_are_told(tmp_path, monkeypatch, loads, rank):
    backend, solver = RunBackend(), solver_of(tmp_path, rank)
    with monkeypatch.context() as two:
        two.setattr("mmaudio.base.ranks.gather_objects", lambda mine: [mine, ["the other has no ears"]])
        with pytest.raises(UserError, match="the other has no ears"):
            backend.everywhere(solver)
    assert backend.here(solver) == 1
