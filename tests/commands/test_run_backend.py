"""What sounds a run's latents while it trains: loaded once for all stages, and told once where it cannot be."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.ranks import Ranks
from mmaudio.commands import previews
from mmaudio.commands.run_backend import RunBackend
from mmaudio.media.audio import write_flac
from mmaudio.media.sample_marks import read_sample_mark
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


def test_it_is_told_once_that_there_is_none(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise UserError("no ears")

    monkeypatch.setattr("mmaudio.commands.run_backend.Backend.load", fail)
    backend, solver = RunBackend(), solver_of(tmp_path)
    assert [backend.here(solver), backend.everywhere(solver), backend.here(solver)] == [None, None, None]
    assert caplog.text.count("training goes on without previews and evaluations: no ears") == 1


@pytest.mark.parametrize(("rank", "left"), [(0, 1), (1, None)])
def test_where_another_rank_has_none_only_the_first_keeps_its_own(tmp_path, monkeypatch, loads, rank, left):
    backend, solver = RunBackend(), solver_of(tmp_path, rank)
    with monkeypatch.context() as two:
        two.setattr("mmaudio.base.ranks.gather_objects", lambda mine: [mine, ["the other has no ears"]])
        assert backend.everywhere(solver) is None
    assert backend.here(solver) == left


@pytest.mark.parametrize("name", ["real", "000000002"])
def test_a_preview_replaces_only_what_the_run_made(tmp_path, name):
    batch = SimpleNamespace(ids=["rain"])
    backend = SimpleNamespace(decode=lambda latent: torch.full((1, 4000), 0.5), spec=SimpleNamespace(rate_hz=16_000))
    for _ in range(2):
        previews._write(backend, tmp_path / name, batch, None, f"x/previews/{name}")
    path = tmp_path / name / "rain.flac"
    assert read_sample_mark(path)["of"] == f"x/previews/{name}"
    write_flac(path, np.zeros(4000), 16_000)
    mine = path.read_bytes()
    with pytest.raises(UserError, match=r"rain\.flac was not made by this program"):
        previews._write(backend, tmp_path / name, batch, None, f"x/previews/{name}")
    assert path.read_bytes() == mine
