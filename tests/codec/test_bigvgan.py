"""The pretrained vocoders: golden numbers at full size through `load_vocoder`, namings, configs, refusals."""

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from mmaudio.base.errors import UserError
from mmaudio.base.specs import MODES
from mmaudio.codec import BigVGAN, load_vocoder
from mmaudio.codec.bigvgan import PUBLISHED, read_config, vocoder_settings
from mmaudio.codec.published_weights import SCHEMES, factored_shapes, plain_tensor
from mmaudio.codec.snake import kaiser_taps
from mmaudio.files.tensor_files import shapes_of
from tests.golden.codec.published import VOCODER, filled, golden, manifest, vocoder_tensors
from tests.golden.fill import error

PRE_FINAL_TOLERANCE = 5e-5
OUT_TOLERANCE = 2e-3

SMALL = {
    "num_mels": 6,
    "upsample_rates": [4, 2],
    "upsample_kernel_sizes": [8, 4],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 2]],
}

# config.json of nvidia/bigvgan_v2_44khz_128band_512x, without the entries of training
RELEASE = {
    "resblock": "1",
    "upsample_rates": [8, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4],
    "upsample_initial_channel": 1536,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "use_tanh_at_final": False,
    "use_bias_at_final": False,
    "activation": "snakebeta",
    "snake_logscale": True,
    "num_mels": 128,
    "n_fft": 2048,
    "hop_size": 512,
    "win_size": 2048,
    "sampling_rate": 44100,
    "fmin": 0,
    "fmax": None,
}


def small_tensors():
    """Plain weights for SMALL."""
    with torch.device("meta"):
        shapes = shapes_of(BigVGAN(vocoder_settings(MODES["16k"], SMALL)))
    return {name: kaiser_taps().view(shape) if name.endswith(".filter") else filled(name, shape) for name, shape in shapes.items()}


def weight_normed(tensors, scheme):
    """The same network with each weight as direction of odd length, and length."""
    named = {}
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        if layer == name:
            named[name] = tensor
            continue
        named[layer + scheme.length] = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
        named[layer + scheme.direction] = 3.0 * tensor
    return named


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("16k", "weightnorm"),
        ("44k", "plain"),
        pytest.param("16k", "plain", marks=pytest.mark.slow),
        pytest.param("44k", "weightnorm", marks=pytest.mark.slow),
    ],
)
def test_golden(mode, form):
    numbers = golden(VOCODER[mode])
    vocoder = load_vocoder({"generator": vocoder_tensors(mode, form)}, mode)
    seen = []
    vocoder.conv_post.register_forward_hook(lambda _module, _inputs, out: seen.append(out[0]))
    out = vocoder(torch.from_numpy(numbers["mel"]))
    assert error(seen[0], numbers[f"{form}_pre_final"]) < PRE_FINAL_TOLERANCE
    assert out.shape == (1, 1, 8 * MODES[mode].hop_samples)
    assert (out - torch.from_numpy(numbers[f"{form}_out"])).abs().max() < OUT_TOLERANCE


@pytest.mark.parametrize("form", ["plain", "weightnorm"])
@pytest.mark.parametrize("mode", MODES)
def test_names_shapes_and_their_order(mode, form):
    with torch.device("meta"):
        plain = shapes_of(BigVGAN(PUBLISHED[mode]))
    parametrised = SCHEMES[1]
    got = plain if form == "plain" else factored_shapes(plain, parametrised)
    assert list(got.items()) == list(manifest(f"{VOCODER[mode]}_{form}").items())


def test_three_namings_are_one_network():
    mel = torch.randn(2, 6, 5)
    plain = small_tensors()
    want = load_vocoder(plain, "16k", config=SMALL)(mel)
    assert want.shape == (2, 1, 40) and want.std() > 0.01
    for scheme in SCHEMES:
        tensors = weight_normed(plain, scheme)
        assert torch.allclose(load_vocoder(tensors, "16k", config=SMALL)(mel), want, atol=1e-5)
        assert torch.allclose(load_vocoder({"generator": tensors}, "16k", config=SMALL)(mel), want, atol=1e-5)


def test_folding_is_that_of_torch():
    """Also of transposed convolutions, whose first axis is the input."""
    for layer in (nn.Conv1d(4, 6, 3), nn.ConvTranspose1d(4, 6, 4)):
        normed = parametrizations.weight_norm(layer)
        named = {f"layer.{name}": tensor.detach() * 1.7 for name, tensor in normed.state_dict().items()}
        normed.load_state_dict({name.removeprefix("layer."): tensor for name, tensor in named.items()})
        parametrize.remove_parametrizations(normed, "weight")
        assert (
            factored_shapes({"layer.weight": tuple(normed.weight.shape)}, SCHEMES[1]).items()
            <= {name: tuple(tensor.shape) for name, tensor in named.items()}.items()
        )
        assert torch.allclose(plain_tensor(named, "layer.weight", SCHEMES[1]), normed.weight, atol=1e-6)


def test_lengths_batches_and_no_gradients():
    vocoder = load_vocoder(small_tensors(), "16k", config=SMALL)
    assert not vocoder.training and not any(parameter.requires_grad for parameter in vocoder.parameters())
    for num_frames in (1, 2, 33):
        mel = torch.randn(3, 6, num_frames)
        out = vocoder(mel)
        assert out.shape == (3, 1, 8 * num_frames) and out.abs().max() <= 1.0
        assert torch.allclose(vocoder(mel[1:2]), out[1:2], atol=1e-5)


def test_last_operation():
    """Tanh or clamping: the first never reaches 1 where the second is cut off."""
    tensors = {name: 2.0 * tensor if name == "conv_post.weight" else tensor for name, tensor in small_tensors().items()}
    mel = torch.randn(1, 6, 20)
    squashed = load_vocoder(tensors, "16k", config=SMALL)(mel)
    clamped = load_vocoder(tensors, "16k", config=SMALL | {"use_tanh_at_final": False})(mel)
    assert clamped.abs().max() == 1.0
    inside = clamped.abs() < 1.0
    assert inside.any() and torch.allclose(squashed[inside], clamped[inside].tanh(), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types(dtype):
    mel = torch.randn(1, 6, 9)
    want = load_vocoder(small_tensors(), "16k", config=SMALL)(mel)
    vocoder = load_vocoder(small_tensors(), "16k", config=SMALL).to(dtype)
    assert vocoder.conv_pre.weight.dtype == dtype and vocoder.activation_post.act.alpha.dtype == torch.float32
    got = vocoder(mel)
    assert got.dtype == torch.float32
    assert error(got, want.numpy()) < 0.05


def test_a_mapped_file_is_left_alone_and_not_held(tmp_path):
    torch.save({"generator": small_tensors()}, tmp_path / "vocoder.pt")
    mapped = torch.load(tmp_path / "vocoder.pt", mmap=True, weights_only=True)
    untouched = {name: (tensor, tensor._version) for name, tensor in mapped["generator"].items()}
    before = torch.get_rng_state()
    vocoder = load_vocoder(mapped, "16k", config=SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: (tensor, tensor._version) for name, tensor in mapped["generator"].items()} == untouched
    for name, tensor in vocoder.state_dict().items():
        assert torch.equal(tensor, mapped["generator"][name])
        assert tensor.data_ptr() != mapped["generator"][name].data_ptr()


def test_tensors_that_do_not_fit_are_named():
    def refusal(change, scheme=None):
        state = small_tensors() if scheme is None else weight_normed(small_tensors(), scheme)
        change(state)
        with pytest.raises(UserError) as refused:
            load_vocoder({"generator": state}, "16k", config=SMALL)
        assert len(refused.value.sentences) == 1
        return str(refused.value)

    assert "16k vocoder: ups.1.0.weight is missing; get" in refusal(lambda state: state.pop("ups.1.0.weight"))
    assert "activation_post.act.beta is missing" in refusal(lambda state: state.pop("activation_post.act.beta"))
    assert "conv_pre.bias is (3,), want (16,);" in refusal(lambda state: state.update({"conv_pre.bias": torch.zeros(3)}))
    assert "odd is not a tensor of it;" in refusal(lambda state: state.update({"odd": torch.zeros(3)}))
    old, parametrised = SCHEMES
    assert "ups.0.0.weight_g is missing;" in refusal(lambda state: state.pop("ups.0.0.weight_g"), old)
    assert "ups.0.0.weight_v is missing;" in refusal(lambda state: state.pop("ups.0.0.weight_v"), old)
    direction = "conv_post.parametrizations.weight.original1"
    assert f"{direction} is missing;" in refusal(lambda state: state.pop(direction), parametrised)
    turned = {"ups.0.0.weight_g": torch.ones(8, 1, 1)}  # one length for each output, as if it were no transposed convolution
    assert "ups.0.0.weight_g is (8, 1, 1), want (16, 1, 1);" in refusal(lambda state: state.update(turned), old)
    with pytest.raises(UserError, match="'generator' in this vocoder file is Tensor, want named tensors"):
        load_vocoder({"generator": torch.zeros(3)}, "16k")


def test_the_file_of_the_other_mode_is_recognised():
    tensors = {name: torch.empty(shape, device="meta") for name, shape in manifest("bigvgan_v2_weightnorm").items()}
    with pytest.raises(UserError, match=r"not of the 16k vocoder: .* they are of the 44k one: choose that mode"):
        load_vocoder(tensors, "16k")


def test_config_of_the_release_is_what_is_built_in():
    tensors = {name: torch.empty(shape, device="meta") for name, shape in manifest("bigvgan_v2_plain").items()}
    assert load_vocoder(tensors, "44k", config=RELEASE).settings == PUBLISHED["44k"]


def test_a_config_that_leaves_out_the_last_layer_means_bias_and_tanh():
    stated = {name: value for name, value in RELEASE.items() if "final" not in name}
    tensors = {name: torch.empty(shape, device="meta") for name, shape in manifest("bigvgan_v2_plain").items()}
    with pytest.raises(UserError, match=r"conv_post\.bias is missing;"):
        load_vocoder(tensors, "44k", config=stated)
    vocoder = load_vocoder(tensors | {"conv_post.bias": torch.zeros(1)}, "44k", config=stated)
    assert vocoder.settings.use_tanh_at_final and vocoder.settings.use_bias_at_final


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sampling_rate": 24000}, "this vocoder has sampling_rate 24000, mode 44k has 44100; choose a vocoder of that mode"),
        ({"hop_size": 256}, "this vocoder has hop_size 256, mode 44k has 512"),
        ({"resblock": "2"}, "vocoder setting resblock is '2'; want '1'"),
        ({"activation": "relu"}, "vocoder setting activation is 'relu'; want one of snake, snakebeta"),
        ({"num_mels": "128"}, "vocoder setting num_mels is '128'; want something like 128"),
        ({"upsample_rates": [8, "4"]}, "vocoder setting upsample_rates is (8, '4'); want something like (8, 4, 2, 2, 2, 2)"),
        ({"upsample_rates": [8, 4]}, "vocoder setting upsample_kernel_sizes is (16, 8, 4, 4, 4, 4); want one for each of upsample_rates"),
        ({"upsample_initial_channel": 100}, "vocoder setting upsample_initial_channel is 100; want a multiple of 64"),
        ({"resblock_kernel_sizes": [3, 7, 10]}, "vocoder setting resblock_kernel_sizes is (3, 7, 10); want odd numbers"),
        ({"resblock_dilation_sizes": [[1, 3, 5]]}, "want a list of positive numbers for each of resblock_kernel_sizes"),
    ],
)
def test_configs_that_describe_no_such_vocoder(change, sentence):
    with pytest.raises(UserError) as refused:
        load_vocoder({}, "44k", config=RELEASE | change)
    assert sentence in str(refused.value)


def test_a_config_file_is_read_or_told(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(RELEASE))
    assert read_config(path) == RELEASE
    for text in ("{torn", "[1, 2]"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"config\.json holds no settings of a vocoder"):
            read_config(path)
