"""Stores joined into one list of rows, and what a batch of them holds."""

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.batches import Mixture, Source
from mmaudio.store import table_path
from tests.store.examples import ODD_TEXTS, SPEC, features, forget_record, index_of, make_store, open_store, text_of


@pytest.fixture
def stores(tmp_path):
    return (
        make_store(tmp_path, "seen", "video", index_of(3, "v"), features("video", 3, seed=1)),
        make_store(tmp_path, "heard", "audio", index_of(4, "a"), features("audio", 4, seed=2)),
    )


def test_rows_are_the_sources_one_after_another_with_repeats(stores):
    mixture = Mixture([Source("seen", "video", stores[0], 2), Source("heard", "audio", stores[1])], SPEC)
    assert len(mixture) == 10
    wanted = ["v0", "v1", "v2", "v0", "v1", "v2", "a0", "a1", "a2", "a3"]
    assert mixture.ids() == wanted
    assert mixture.gather(np.arange(10)).ids == wanted


def test_a_source_is_opened_by_its_paths(tmp_path, stores):
    source = Source.open("mine", table_path(tmp_path / "seen"), tmp_path / "seen", repeat=2)
    assert (source.name, source.kind, source.repeat, source.store.ids) == ("mine", "video", 2, stores[0].ids)
    assert Source.open("mine", table_path(tmp_path / "seen"), tmp_path / "seen", kind="audio").kind == "audio"
    with pytest.raises(UserError, match="no table"):
        Source.open("mine", tmp_path / "gone.tsv", tmp_path / "seen")


def test_a_mixed_batch(stores):
    mixture = Mixture([Source("seen", "video", stores[0], 2), Source("heard", "audio", stores[1], 3)], SPEC)
    batch = mixture.gather(torch.tensor([7, 4, 17, 1]), [8, 9, 10, 11])
    assert batch.ids == ["a1", "v1", "a3", "v1"]
    assert batch.captions == ["caption 1", "caption 1", "caption 0", "caption 1"]
    assert batch.positions.tolist() == [8, 9, 10, 11]
    assert batch.video_exist.tolist() == [False, True, False, True]
    assert batch.text_exist.tolist() == [True] * 4
    assert (batch.video_exist.dtype, batch.positions.dtype) == (torch.bool, torch.int64)
    seen, heard = features("video", 3, seed=1), features("audio", 4, seed=2)
    assert torch.equal(batch.a_mean, torch.stack([heard["mean"][1], seen["mean"][1], heard["mean"][3], seen["mean"][1]]))
    assert torch.equal(batch.a_std, torch.stack([heard["std"][1], seen["std"][1], heard["std"][3], seen["std"][1]]))
    for name in ("clip_features", "sync_features"):
        value = getattr(batch, name)
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, seen[name][[1, 1]].bfloat16()), "rows of what has video, and no others"
    assert torch.equal(batch.text_features.float(), torch.stack([text_of(caption) for caption in batch.captions]))


def test_audio_alone_has_streams_of_the_models_size_and_no_rows(stores):
    batch = Mixture([Source("heard", "audio", stores[1])], SPEC).gather(np.array([0, 3]))
    assert batch.clip_features.shape == (0, SPEC.num_clip_frames, 1024)
    assert batch.sync_features.shape == (0, SPEC.num_sync_tokens, 768)
    assert not batch.video_exist.any()


def test_stores_of_different_dtypes_meet_in_float32(tmp_path, stores):
    published = make_store(tmp_path, "published", "video", index_of(3, "p"), features("video", 3, seed=3), layout="published")
    forget_record(tmp_path, "published")
    published = open_store(tmp_path, "published")
    mixture = Mixture([Source("seen", "video", stores[0]), Source("published", "video", published)], SPEC)
    batch = mixture.gather(np.array([0, 5]))
    assert batch.sync_features.dtype == torch.float32
    assert torch.equal(batch.sync_features[0], features("video", 3, seed=1)["sync_features"][0].bfloat16().float())
    assert torch.equal(batch.sync_features[1], features("video", 3, seed=3)["sync_features"][2])


def test_statistics_are_the_first_video_stores(stores):
    both = Mixture([Source("heard", "audio", stores[1]), Source("seen", "video", stores[0])], SPEC)
    torch.testing.assert_close(both.latent_statistics()[1], features("video", 3, seed=1)["mean"].std((0, 1)))
    alone = Mixture([Source("heard", "audio", stores[1])], SPEC)
    torch.testing.assert_close(alone.latent_statistics()[0], features("audio", 4, seed=2)["mean"].mean((0, 1)))


def test_odd_ids_and_captions_reach_the_batch(tmp_path):
    index = list(zip(ODD_TEXTS, reversed(ODD_TEXTS), strict=True))
    store = make_store(tmp_path, "odd", "audio", index)
    batch = Mixture([Source("odd", "audio", store)], SPEC).gather(np.arange(len(index)))
    assert list(zip(batch.ids, batch.captions, strict=True)) == index
    assert all(type(text) is str for text in batch.ids + batch.captions)


def test_refuses_rows_and_sources_that_are_none(stores):
    mixture = Mixture([Source("seen", "video", stores[0])], SPEC)
    for index in (-1, 3):
        with pytest.raises(IndexError, match="of a mixture of 3"):
            mixture.gather(np.array([index]))
    with pytest.raises(ValueError, match="at least one source"):
        Mixture([], SPEC)
    with pytest.raises(ValueError, match="repeat is"):
        Mixture([Source("seen", "video", stores[0], 0)], SPEC)
