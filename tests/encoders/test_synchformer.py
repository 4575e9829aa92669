"""Synchformer's visual branch against numbers of the published system, and what its segments may know of each other."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmaudio.base.errors import UserError
from mmaudio.encoders import Synchformer, load_synchformer
from tests.encoders.sharp import filled, hollow, manifest
from tests.golden.fill import GOLDEN, error, given

TOLERANCE = 1e-5
PROBE_TOLERANCE = 2e-5  # rounding alone: in double precision the probes differ from the golden ones about as much
PATCH_ROWS, TOKEN_ROWS = [0, 1, 196, 1567], [0, 1, 2, 197, 198, 1568]


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "encoders" / "synchformer_visual.npz")


@pytest.fixture(scope="module")
def frames(golden):
    frames = given("synchformer_frames", 1, 24, 3, 224, 224).mul(0.5).clamp(-1, 1)
    assert np.array_equal(frames.flatten()[:16].numpy(), golden["frames_check_first16"])
    assert abs(float(frames.double().abs().sum()) - golden["frames_check_sum_abs"]) < 1e-3
    return frames


@pytest.fixture(scope="module")
def shallow():
    """One block of twelve: everything but depth."""
    synchformer = Synchformer(depth=1)
    wanted = {name: tuple(tensor.shape) for name, tensor in synchformer.state_dict().items()}
    synchformer.load_state_dict(filled(wanted, "sharp"))
    return synchformer.eval().requires_grad_(False)


@torch.inference_mode()
def test_golden_segment_and_what_it_passes_through(golden, frames):
    synchformer = load_synchformer(filled(manifest("synchformer_visual"), "sharp"))
    encoder, seen = synchformer.vfeat_extractor, {}
    places = {
        "patch_embed_3d": (encoder.patch_embed_3d, PATCH_ROWS),
        "block0_timeattn": (encoder.blocks[0].timeattn, TOKEN_ROWS),
        "block0_attn": (encoder.blocks[0].attn, TOKEN_ROWS),
        "block0": (encoder.blocks[0], TOKEN_ROWS),
        "block11": (encoder.blocks[11], TOKEN_ROWS),
        "norm": (encoder.norm, PATCH_ROWS),
    }
    for name, (module, rows) in places.items():
        module.register_forward_hook(lambda _m, _i, out, name=name, rows=rows: seen.update({name: out[0, rows, :32]}))
    assert error(synchformer(frames[:, :16])[0], golden["sharp_segment0"]) < TOLERANCE
    for name in places:
        assert error(seen[name], golden[f"sharp_probe_{name}"]) < PROBE_TOLERANCE, name


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("fill", ["base", "sharp"])
def test_golden_features(golden, frames, fill):
    synchformer = load_synchformer(filled(manifest("synchformer_visual"), fill))
    assert error(synchformer(frames)[0], golden[f"{fill}_features"]) < TOLERANCE


@torch.inference_mode()
def test_segments_are_encoded_alone_and_in_order_however_many_at_once(shallow):
    frames = given("test_frames", 2, 26, 3, 224, 224).mul(0.5).clamp(-1, 1)
    frames[:, 24:] = torch.nan  # no segment is full of them
    together = shallow(frames)
    assert together.shape == (2, 16, 768)
    assert error(shallow(frames, max_segments=3), together.numpy()) < 2e-6
    assert error(shallow(frames[1:, 8:24])[0], together[1, 8:].numpy()) < 2e-6


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_half_precision(shallow, dtype):
    frames = given("test_frames", 1, 16, 3, 224, 224).mul(0.5).clamp(-1, 1)
    half = Synchformer(depth=1)
    half.load_state_dict(shallow.state_dict())
    got = half.eval().to(dtype)(frames)
    assert got.dtype == dtype
    assert F.cosine_similarity(got.float(), shallow(frames), dim=-1).min() > 0.999


@pytest.mark.parametrize("shape", [(1, 15, 3, 224, 224), (1, 16, 3, 224, 225), (1, 16, 1, 224, 224), (16, 3, 224, 224)])
def test_other_frames_are_refused(shallow, shape):
    with pytest.raises(ValueError, match=r"want \(clips, frames, 3, 224, 224\) with at least 16 frames"):
        shallow(torch.zeros(shape))


def test_parameters_are_the_tensors_of_the_file_and_other_groups_are_dropped():
    state = hollow(manifest("synchformer_visual"))
    state |= {f"{group}.weight": torch.zeros(2) for group in ("afeat_extractor", "vproj", "aproj", "transformer")}
    names = list(state)
    synchformer = load_synchformer(state)
    assert list(state) == names
    kept = synchformer.state_dict()
    dropped = {"vfeat_extractor.patch_embed.proj.weight", "vfeat_extractor.patch_embed.proj.bias"}
    assert set(kept) == {name for name in names if name.startswith("vfeat_extractor.")} - dropped
    assert all(kept[name].data_ptr() == state[name].data_ptr() for name in kept), "copied"
    assert not synchformer.training
    assert not any(parameter.requires_grad for parameter in synchformer.parameters())


@pytest.mark.parametrize("name", ["cls_token", "patch_embed.proj.bias", "blocks.11.timeattn.qkv.weight", "spatial_attn_agg.linear2.bias"])
def test_a_tensor_that_is_missing_or_misshapen_is_refused_by_name(name):
    name = f"vfeat_extractor.{name}"
    state = hollow(manifest("synchformer_visual"))
    given_one = state.pop(name)
    with pytest.raises(UserError, match=rf"{name} is missing; get the published file anew"):
        load_synchformer(state)
    with pytest.raises(UserError, match=rf"{name} is \(2, .* want \("):
        load_synchformer(state | {name: torch.stack([given_one, given_one])})


def test_an_unknown_tensor_is_refused_by_name():
    state = hollow(manifest("synchformer_visual")) | {"vfeat_extractor.blocks.12.norm1.bias": torch.zeros(768)}
    with pytest.raises(UserError, match=r"vfeat_extractor\.blocks\.12\.norm1\.bias is not a tensor of it"):
        load_synchformer(state)
