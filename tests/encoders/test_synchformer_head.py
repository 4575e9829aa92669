"""Synchformer's comparison head against numbers of the published system."""

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.encoders import by_segment, load_sync_head
from tests.encoders.sharp import hollow, manifest
from tests.encoders.sharp_sync import sync_state
from tests.golden.fill import GOLDEN, error, given

TOLERANCE = 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("fill", ["base", "sharp"])
def test_golden_logits(fill):
    golden = np.load(GOLDEN / "encoders" / "sync_compare.npz")
    head = load_sync_head(sync_state("compare", fill))
    video, audio = given("sync_compare_video", 4, 14, 8, 768), given("sync_compare_audio", 4, 14, 6, 768)
    assert error(head(video, audio), golden[f"{fill}_logits"]) < TOLERANCE


def test_vectors_of_the_visual_branch_by_segment():
    tokens = torch.arange(2 * 24 * 768).reshape(2, 24, 768)
    assert torch.equal(by_segment(tokens)[1, 2, 5], tokens[1, 21])
    with pytest.raises(ValueError, match="segments x 8"):
        by_segment(tokens[:, :23])


def test_other_lengths_are_refused_and_other_groups_dropped():
    state = hollow(manifest("synchformer_compare"))
    head = load_sync_head(state | {"afeat_extractor.x": torch.zeros(1)})
    assert set(head.state_dict()) == set(state)
    with pytest.raises(ValueError, match=r"want \(1, 14, 8, 768\) and \(1, 14, 6, 768\)"):
        head(torch.zeros(1, 13, 8, 768), torch.zeros(1, 13, 6, 768))


@pytest.mark.parametrize("name", ["vproj.weight", "transformer.OFF_tok", "transformer.blocks.2.mlp.2.bias"])
def test_a_tensor_that_is_missing_misshapen_or_unknown_is_refused_by_name(name):
    state = hollow(manifest("synchformer_compare"))
    with pytest.raises(UserError, match=r"comparison head: transformer\.extra is not a tensor of it"):
        load_sync_head(state | {"transformer.extra": torch.zeros(1)})
    given_one = state.pop(name)
    with pytest.raises(UserError, match=rf"{name} is missing"):
        load_sync_head(state)
    with pytest.raises(UserError, match=rf"{name} is \(2, .* want \("):
        load_sync_head(state | {name: torch.stack([given_one, given_one])})
