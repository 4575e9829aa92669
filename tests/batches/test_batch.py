"""What a batch can be asked for: parts of it, and one row a sample."""

import numpy as np
import pytest
import torch

from mmaudio.batches import Mixture, Source
from tests.batches.plain import assert_plain
from tests.store.examples import SPEC, index_of, make_store


@pytest.fixture
def mixture(tmp_path):
    seen, heard = make_store(tmp_path, "v", "video", index_of(4, "v")), make_store(tmp_path, "a", "audio", index_of(3, "a"))
    return Mixture([Source("v", "video", seen), Source("a", "audio", heard)], SPEC)


@pytest.mark.parametrize(("start", "stop"), [(0, 6), (0, 2), (1, 3), (2, 5), (1, 2), (5, 9)])
def test_parts_are_views_of_their_samples(mixture, start, stop):
    indices = np.array([4, 1, 6, 0, 3, 5])
    batch = mixture.gather(indices, indices + 10)
    part = batch.part(start, stop)
    assert len(part) == len(indices[start:stop])
    assert_plain(part, mixture, indices[start:stop])
    assert part.ids == batch.ids[start:stop]
    assert part.captions == batch.captions[start:stop]
    assert part.positions.tolist() == (indices + 10)[start:stop].tolist()
    assert part.sync_features.untyped_storage().data_ptr() == batch.sync_features.untyped_storage().data_ptr()
    assert part.part(0, 1).ids == part.ids[:1]


def test_one_row_a_sample_is_zero_where_there_is_no_video(mixture):
    batch = mixture.gather(np.array([4, 1, 6, 0]))
    for rows in (batch.clip_features, batch.sync_features):
        every = batch.one_a_sample(rows)
        assert every.shape == (4, *rows.shape[1:])
        assert every.dtype == rows.dtype
        assert torch.equal(every[[1, 3]], rows)
        assert not every[[0, 2]].any()
    all_video = mixture.gather(np.array([2, 1]))
    assert all_video.one_a_sample(all_video.clip_features) is all_video.clip_features
    with pytest.raises(ValueError, match="1 rows for 2 samples with video"):
        batch.one_a_sample(batch.clip_features[:1])
