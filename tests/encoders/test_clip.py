"""CLIP through open_clip against numbers of the published system, at its full size without its weights, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmaudio.base.errors import UserError
from mmaudio.encoders import load_clip
from mmaudio.encoders.clip import build_clip, tokenize
from tests.encoders.sharp import filled, hollow, manifest
from tests.encoders.small_clip import PICTURES, write_small_clip
from tests.golden.fill import GOLDEN, error, given

TOLERANCE = 1e-5
TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 378, "layers": 2, "width": 48, "head_width": 16, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
FULL = "ViT-H-14-378-quickgelu"
CAPTIONS = [
    "",
    "a dog barking in the distance",
    "Rain &amp; THUNDER,   with  café chatter!",
    " ".join(["wind howling through the trees and"] * 20),
]


def write(folder: Path, state, model_cfg=TINY, file: str = "open_clip_pytorch_model.bin") -> Path:
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": PICTURES}))
    if file.endswith(".bin"):
        torch.save(state, folder / file)
    else:
        from safetensors.torch import save_file

        save_file(state, folder / file)
    return folder


def build_tiny(state=None, model_cfg=TINY, **asked):
    state = hollow(manifest("tiny_clip")) if state is None else state
    return build_clip({"model_cfg": model_cfg}, state, source="here", **asked)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "encoders" / "tiny_clip.npz")


@pytest.fixture(scope="module")
def frames(golden):
    frames = given("clip_frames", 1, 3, 3, 384, 384)[0].mul(0.25).add(0.5).clamp(0, 1)
    assert np.array_equal(frames.flatten()[:16].numpy(), golden["frames_check_first16"])
    assert abs(float(frames.double().sum()) - golden["frames_check_sum"]) < 1e-3
    return frames


@pytest.fixture(scope="module")
def sharp_clip():
    return build_tiny(filled(manifest("tiny_clip"), "sharp"))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("fill", "file"),
    [
        ("base", "open_clip_pytorch_model.bin"),
        ("sharp", "open_clip_pytorch_model.bin"),
        ("sharp", "open_clip_model.safetensors"),
        ("sharp", "open_clip_pytorch_model.safetensors"),
    ],
)
def test_golden_features(golden, frames, tmp_path, fill, file):
    clip = load_clip(write(tmp_path, filled(manifest("tiny_clip"), fill), file=file))
    assert (clip.image_width, clip.text_width) == (32, 64)
    assert not clip.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    before_norm = []
    clip.ln_final.register_forward_hook(lambda _m, _i, out: before_norm.append(out))
    assert error(clip.encode_images(frames), golden[f"{fill}_image_features"][0]) < TOLERANCE
    assert error(clip.encode_text(CAPTIONS), golden[f"{fill}_text_features"]) < TOLERANCE
    assert error(before_norm[0][:2], golden[f"{fill}_text_unnormalised_first2"]) < TOLERANCE


def test_golden_tokens(golden):
    assert np.array_equal(tokenize(CAPTIONS).numpy(), golden["tokens"])


@torch.inference_mode()
def test_chunks_and_the_last_rows_and_columns_change_nothing(sharp_clip, frames):
    together = sharp_clip.encode_images(frames)
    for max_frames in (1, 2):
        assert error(sharp_clip.encode_images(frames, max_frames=max_frames), together.numpy()) < 1e-6
    beyond = frames.clone()
    beyond[:, :, 378:], beyond[:, :, :, 378:] = torch.nan, torch.nan
    assert torch.equal(sharp_clip.encode_images(beyond), together)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(sharp_clip, frames, dtype):
    half = build_tiny(filled(manifest("tiny_clip"), "sharp")).to(dtype)
    for got, want in (
        (half.encode_images(frames), sharp_clip.encode_images(frames)),
        (half.encode_text(CAPTIONS), sharp_clip.encode_text(CAPTIONS)),
    ):
        assert got.dtype == dtype
        assert F.cosine_similarity(got.float(), want, dim=-1).min() > 0.999


@torch.inference_mode()
def test_mean_and_std_are_those_of_the_directory(sharp_clip, frames):
    other = build_clip(
        {"model_cfg": TINY, "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, filled(manifest("tiny_clip"), "sharp"), source="here"
    )
    mean, std = (torch.tensor(PICTURES[name])[:, None, None] for name in ("mean", "std"))
    assert error(other.encode_images((frames - mean) / std), sharp_clip.encode_images(frames).numpy()) < 1e-6


@pytest.mark.parametrize("asked", ["image", "text"])
def test_a_tower_not_asked_for_is_not_kept(asked):
    clip = build_tiny(image=asked == "image", text=asked == "text")
    of_image = [name for name in clip.state_dict() if name.startswith("visual.")]
    assert len(of_image) == (len(clip.state_dict()) if asked == "image" else 0) and clip.state_dict()
    refused = (lambda: clip.encode_text([""])) if asked == "image" else (lambda: clip.encode_images(torch.zeros(1, 3, 384, 384)))
    with pytest.raises(ValueError, match="was loaded without its"):
        refused()


@pytest.mark.parametrize("shape", [(2, 3, 378, 378), (0, 3, 384, 384), (3, 384, 384)])
def test_other_frames_are_refused(sharp_clip, shape):
    with pytest.raises(ValueError, match=re.escape(f"shape {shape}; want (frames, 3, 384, 384)")):
        sharp_clip.encode_images(torch.zeros(shape))


@pytest.mark.parametrize("name", ["logit_scale", "visual.proj", "transformer.resblocks.1.mlp.c_fc.bias"])
def test_a_tensor_that_does_not_fit_is_refused_by_name(name):
    state = hollow(manifest("tiny_clip"))
    one = state.pop(name)
    with pytest.raises(UserError, match=re.escape(f"{name} is missing; get the published file anew")):
        build_tiny(state, image=False)
    with pytest.raises(UserError, match=re.escape(f"{name} is {(2, *one.shape)}, want {tuple(one.shape)}")):
        build_tiny(state | {name: torch.stack([one, one])})
    with pytest.raises(UserError, match=re.escape(f"{name}.again is not a tensor of it")):
        build_tiny(state | {name: one, f"{name}.again": one})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"custom_text": True}, "custom_text"),
        ({"vision_cfg": {"timm_model_name": "vit_base_patch16_224"}}, "timm_model_name is of another library"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name is of another library"),
        ({"text_cfg": {"context_length": 32}}, r"\(32, 49408\); CLIP's tokenizer gives \(77, 49408\)"),
        ({"vision_cfg": {"image_size": 224}}, "no image transformer for pictures of 384 pixels"),
        ({"vision_cfg": {"layers": [1, 1, 1, 1], "width": 64}}, "no image transformer"),
        ({"vision_cfg": 5}, "does not describe a CLIP"),
    ],
)
def test_another_kind_of_model_is_refused(change, said):
    model_cfg = {key: TINY.get(key, {}) | value if isinstance(value, dict) else value for key, value in (TINY | change).items()}
    with pytest.raises(UserError, match=said):
        build_tiny(model_cfg=model_cfg)


def test_files_that_are_missing_or_torn_are_named(tmp_path):
    with pytest.raises(UserError, match=r"open_clip_config\.json cannot be read: No such file"):
        load_clip(tmp_path)
    config = tmp_path / "open_clip_config.json"
    for content in ("{", "[]", "{}", json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5]}})):
        config.write_text(content)
        with pytest.raises(UserError, match=r"open_clip_config\.json describes no open_clip model"):
            load_clip(tmp_path)
    config.write_text(json.dumps({"model_cfg": TINY}))
    with pytest.raises(UserError, match=r"there is no open_clip_pytorch_model\.bin in it"):
        load_clip(tmp_path)
    for file in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        (tmp_path / file).write_bytes(b"torn" * 100)
        with pytest.raises(UserError, match=rf"{re.escape(file)} is no readable weights file"):
            load_clip(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match="want a file of named tensors"):
        load_clip(tmp_path)


def test_the_small_clip_has_the_published_widths(tmp_path):
    folder = write_small_clip(tmp_path / "clip")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40e6
    clip = load_clip(folder)
    assert (clip.image_width, clip.text_width) == (1024, 1024)
    with torch.inference_mode():
        image, text = clip.encode_images(torch.rand(1, 3, 384, 384)), clip.encode_text(["a dog", "a cat"])
    assert image.shape == (1, 1024) and text.shape == (2, 77, 1024)
    assert torch.allclose(text.norm(dim=-1), torch.ones(2, 77)) and not torch.allclose(text[0, 2], text[1, 2])


def full_manifest() -> dict[str, tuple[int, ...]]:
    """The tiny model's names, with the widths and depths of ViT-H/14 and its text tower."""
    widths = {"visual": {48: 1280, 144: 3840, 192: 5120, 32: 1024}, "text": {64: 1024, 192: 3072, 256: 4096, 32: 1024}}
    wanted = {}
    for name, shape in manifest("tiny_clip").items():
        tower = "visual" if name.startswith("visual.") else "text"
        shape = tuple(widths[tower].get(length, length) for length in shape)
        if "resblocks.1." not in name:
            for layer in range({"visual": 32, "text": 24}[tower] if "resblocks.0." in name else 1):
                wanted[name.replace("resblocks.0.", f"resblocks.{layer}.")] = shape
    return wanted


def full_config():
    from open_clip import get_model_config

    return get_model_config(FULL)


def test_the_full_model_is_made_without_memory_and_takes_every_tensor_of_its_size():
    from open_clip.transformer import QuickGELU

    wanted = full_manifest()
    assert sum(int(np.prod(shape)) for shape in wanted.values()) == 986_714_881  # 986.71 million, as open_clip lists it
    clip = build_clip({"model_cfg": full_config()}, hollow(wanted), source="here")
    assert set(wanted) - set(clip.state_dict()) == {"logit_scale", "text_projection"}
    activations = [module for module in clip.modules() if isinstance(module, QuickGELU)]
    assert len(activations) == 32 + 24
    assert (clip.image_width, clip.text_width) == (1024, 1024)


def own_memory_mib() -> float:
    """Memory of this process that no file stands behind."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


@pytest.mark.slow
@torch.inference_mode()
def test_a_frame_and_a_caption_through_the_full_model(tmp_path):
    from open_clip.model import CLIP

    config = full_config()
    draw = torch.Generator().manual_seed(0)
    state = {
        name: torch.ones(shape)
        if re.search(r"ln_\w+\.weight$", name)
        else torch.randn(shape, generator=draw).mul_(shape[-1] ** -0.5 if len(shape) > 1 else 0.1)
        for name, shape in full_manifest().items()
    }
    write(tmp_path, state, config)
    del state
    before = own_memory_mib()
    clip = load_clip(tmp_path)
    frames, captions = torch.rand(1, 3, 384, 384, generator=draw), ["a dog barking in the distance"]
    image, text = clip.encode_images(frames), clip.encode_text(captions)
    assert own_memory_mib() - before < 400, "the weights (3.8 GB) are to stay in the file's pages"

    # The same tensors in open_clip's other kind of block, which spells the attention out.
    vision, words = config["vision_cfg"] | {"block_type": "custom"}, config["text_cfg"] | {"block_type": "custom"}
    with torch.device("meta"):
        spelt_out = CLIP(**config | {"vision_cfg": vision, "text_cfg": words})
    spelt_out.load_state_dict(clip.state_dict(), assign=True, strict=False)
    mean, std = (torch.tensor(PICTURES[name])[:, None, None] for name in ("mean", "std"))
    want = spelt_out.eval().visual(((frames - mean) / std)[:, :, :378, :378])
    assert error(image, F.normalize(want, dim=-1).numpy()) < TOLERANCE
    mask = torch.ones(77, 77, dtype=torch.bool).tril().logical_not() * torch.tensor(-1e9)
    x = spelt_out.token_embedding(tokenize(captions)) + spelt_out.positional_embedding
    want = F.normalize(spelt_out.ln_final(spelt_out.transformer(x, attn_mask=mask)), dim=-1)
    assert error(text, want.numpy()) < TOLERANCE
    (tmp_path / "open_clip_pytorch_model.bin").unlink()
