"""The pretrained backend: loads what is needed, computes within a budget, says what it loaded. CLIP stands for all networks here;
tests/test_pretrained.py runs every stage with all of them."""

from functools import partial
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.specs import AudioSpec
from mmaudio.features import build_backend
from mmaudio.features.backend_plan import ABILITIES, BackendPlan
from tests.encoders.small_clip import write_small_clip

CAPTIONS = ["rain on a tin roof", "", "a dog"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_small_clip(tmp_path_factory.mktemp("weights") / "clip")


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 3, 384, 384), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def built(clip: Path, **options):
    return build_backend("pretrained", "16k", needs=("scene", "text"), places={"clip": str(clip)}, **options)


def test_no_more_is_loaded_than_is_needed_and_it_is_said(clip, frames):
    backend = built(clip)
    assert list(backend.weights) == ["clip"]
    assert backend.weights["clip"].startswith("sha256:")
    assert backend.encode_clip(frames).shape == (2, 3, 1024)
    assert [name for name in ABILITIES if getattr(backend.abilities, name) is not None] == ["scene", "text"]
    with pytest.raises(ValueError, match="built without 'sync'"):
        backend.encode_sync(torch.zeros(1, 16, 3, 224, 224, dtype=torch.uint8))


def test_the_budget_splits_the_work_and_changes_nothing(clip, frames, monkeypatch):
    wide, tight = built(clip, memory_gb=8.0), built(clip, memory_gb=1e-3)
    at_once = []
    from mmaudio.encoders.clip import Clip

    whole = Clip.encode_images
    monkeypatch.setattr(Clip, "encode_images", lambda self, part, **how: at_once.append(len(part)) or whole(self, part, **how))
    want, found = wide.encode_clip(frames), tight.encode_clip(frames)
    assert at_once == [6, 1, 1, 1, 1, 1, 1]
    assert (found - want).abs().max() < 1e-5
    assert (tight.encode_text(CAPTIONS) - wide.encode_text(CAPTIONS)).abs().max() < 1e-5


def test_compiled_networks_give_the_same(clip, frames, monkeypatch):
    traced = []
    compile_as_it_is = partial(torch.compile, backend="eager", fullgraph=True)  # the tracing, without minutes of a C++ compiler
    monkeypatch.setattr(torch, "compile", lambda function: traced.append(function) or compile_as_it_is(function))
    plain, compiled = built(clip), built(clip, compiled=True)
    assert len(traced) == 2  # both towers
    assert (compiled.encode_clip(frames) - plain.encode_clip(frames)).abs().max() < 1e-6
    assert (compiled.encode_text(CAPTIONS) - plain.encode_text(CAPTIONS)).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_short_types_give_nearly_the_same_features_in_float32(clip, frames, dtype):
    exact, short = built(clip), built(clip, dtype=dtype)
    for call in (lambda backend: backend.encode_clip(frames), lambda backend: backend.encode_text(CAPTIONS)):
        want, found = call(exact), call(short)
        assert found.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(found, want, dim=-1).min() > 0.999


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({"name": "pretraned"}, "no backend 'pretraned' (did you mean 'pretrained'?)"),
        ({"name": "pretrained", "dtype": "bf61"}, "no dtype 'bf61' (did you mean 'bf16'?)"),
        ({"name": "lite", "dtype": "bf16"}, "the lite backend has no weights"),
        ({"name": "pretrained", "memory_gb": 0.0}, "the memory for the pretrained networks is 0 GB"),
        ({"name": "pretrained", "places": {"clap": "x"}}, "no weights named 'clap' (did you mean 'clip'?)"),
        ({"name": "pretrained", "places": {"vae_16k": "gone.pth"}}, "there is no file at gone.pth"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(plan, sentence):
    with pytest.raises(UserError) as caught:
        BackendPlan(spec=AudioSpec(), **plan)
    assert sentence in str(caught.value)
