"""The lite encoders: the pretrained ones' shapes, and features that say what was seen and written."""

import json

import pytest
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.encoders import LiteText, encode_scene, encode_sync
from mmaudio.encoders.clip import tokenize
from tests.golden.fill import GOLDEN


@pytest.mark.parametrize("duration_s", [0.64, 2.0, 2.5, 8.0])
def test_shapes_are_those_of_the_pretrained_encoders(duration_s):
    spec = AudioSpec("16k", duration_s)
    clip = torch.zeros(1, spec.num_clip_frames, 3, 384, 384, dtype=torch.uint8)
    sync = torch.zeros(1, spec.num_sync_frames, 3, 224, 224, dtype=torch.uint8)
    assert encode_scene(clip).shape == (1, spec.num_clip_frames, 1024)
    assert encode_sync(sync).shape == (1, spec.num_sync_tokens, 768)


def test_segments_know_nothing_of_each_other():
    frames = torch.randint(0, 255, (1, 32, 3, 224, 224), dtype=torch.uint8)
    changed = frames.clone()
    changed[:, 24:] = 0  # frames 24 to 31 are in the third segment alone
    tokens, other = encode_sync(frames), encode_sync(changed)
    assert torch.equal(tokens[:, :16], other[:, :16])
    assert not torch.equal(tokens[:, 16:], other[:, 16:])


def test_a_still_picture_has_luminance_and_no_motion():
    tokens = encode_sync(torch.full((1, 16, 3, 224, 224), 255, dtype=torch.uint8))
    assert torch.allclose(tokens[..., :128], torch.ones(()), atol=1e-5)
    assert tokens[..., 128:].abs().max() < 1e-5


def test_motion_stands_where_and_when_it_happens():
    frames = torch.zeros(1, 16, 3, 224, 224, dtype=torch.uint8)
    frames[:, 6:, :, :28, :28] = 255  # the first cell lights up at frame 6
    own_difference = encode_sync(frames)[0].unflatten(1, (12, 64))[:, 2:]  # tokens, differences 2j - 4 … 2j + 5, cells
    for token in range(8):
        lit = own_difference[token, :, 0].nonzero().flatten().tolist()
        assert lit == [k for k in range(10) if 2 * token - 4 + k == 6]
    assert own_difference[..., 1:].abs().max() == 0


def test_colour_is_seen():
    frames = torch.zeros(1, 1, 3, 384, 384, dtype=torch.uint8)
    frames[:, :, 0] = 255
    red = encode_scene(frames).unflatten(2, (16, 64))
    assert torch.allclose(red[0, 0, 0], torch.ones(64)) and torch.allclose(red[0, 0, 1:3], -torch.ones(2, 64))


def test_tokens_are_those_of_clip():
    assert tokenize(["a red rubber ball"])[0, :7].tolist() == [49406, 320, 736, 11331, 1069, 49407, 0]
    long = tokenize(["ball " * 200])[0]
    assert long.shape == (77,) and long[-1] == 49407


def test_text_features():
    text = LiteText()(["a red ball", "a ball red", "a red ball", ""])
    assert text.shape == (4, 77, 1024)
    assert torch.equal(text[0], text[2])
    assert not torch.equal(text[0], text[1])
    assert torch.allclose(text.square().mean(-1), torch.ones(4, 77), atol=1e-4)
    assert torch.equal(LiteText()(["a red ball"])[0], text[0]), "a caption's features do not depend on its neighbours"


def test_golden_tokens():
    items = json.loads((GOLDEN / "audio_clips.json").read_text())["items"]
    spoken = [item for item in items if "tokens_head" in item]
    assert spoken
    for item in spoken:
        assert tokenize([item["caption"]])[0, :8].tolist() == item["tokens_head"]
