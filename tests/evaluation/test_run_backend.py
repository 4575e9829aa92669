"""What sounds a run's latents while it trains: loaded once for all stages, and tried again where it cannot be."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation import training_stages as previews
from mmaudio.evaluation.training_stages import LazyBackend
from mmaudio.media.audio import write_flac
from mmaudio.media.sample_marks import read_sample_mark
from tests.trainer.tiny_stores import tiny_settings


def trainer_of(folder, rank=0):
    return SimpleNamespace(settings=tiny_settings(folder, "x"), device=torch.device("cpu"), ranks=Ranks(rank, 2))


@pytest.fixture
def loads(monkeypatch):
    done = []
    monkeypatch.setattr("mmaudio.evaluation.training_stages.Backend.load", lambda *words: done.append(words) or len(done))
    return done


def test_it_is_loaded_once(tmp_path, loads):
    backend, trainer = LazyBackend(), trainer_of(tmp_path)
    assert loads == []
    assert [backend.here(trainer), backend.everywhere(trainer), backend.here(trainer)] == [1, 1, 1]
    assert len(loads) == 1


def test_it_is_tried_again_where_it_could_not_be_loaded(tmp_path, monkeypatch, loads):
    def fail(*_):
        raise UserError("no ears")

    backend, trainer = LazyBackend(), trainer_of(tmp_path)
    with monkeypatch.context() as deaf:
        deaf.setattr("mmaudio.evaluation.training_stages.Backend.load", fail)
        for load in (backend.here, backend.everywhere):
            with pytest.raises(UserError, match="no ears"):
                load(trainer)
    assert backend.here(trainer) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_where_another_rank_has_none_all_are_told(tmp_path, monkeypatch, loads, rank):
    backend, trainer = LazyBackend(), trainer_of(tmp_path, rank)
    with monkeypatch.context() as two:
        two.setattr("mmaudio.distributed.collectives.gather_objects", lambda mine: [mine, ["the other has no ears"]])
        with pytest.raises(UserError, match="the other has no ears"):
            backend.everywhere(trainer)
    assert backend.here(trainer) == 1


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
