"""The pretrained VAE: golden numbers at full size through `load_vae`, what it takes, what it refuses."""

import copy

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.specs import MODES
from mmaudio.codec import MelVAE, load_vae
from mmaudio.codec.vae import mel_statistics
from tests.golden.codec.published import golden, manifest, vae_tensors
from tests.golden.fill import error

TOLERANCE = 2e-5
ONE_WEIGHT = "decoder.mid.attn_1.qkv.weight"


@pytest.fixture(scope="module")
def tensors():
    return vae_tensors("16k")


@pytest.fixture(scope="module")
def vae(tensors):
    return load_vae(tensors, "16k")


def meta_tensors(mode="16k"):
    """A file by names and shapes; enough for what is refused before a value is looked at."""
    return {name: torch.empty(shape, device="meta") for name, shape in manifest(f"vae_{mode}").items()}


def check_encoder(vae, mode):
    numbers = golden(f"vae_{mode}")
    mel = torch.from_numpy(numbers["mel"])
    mean, std = vae.encode(mel)
    assert error(mean, numbers["mean"]) < TOLERANCE
    assert error(std, numbers["std"]) < TOLERANCE
    assert error(vae.encode(mel[..., :-1])[0], numbers["mean_odd"]) < TOLERANCE


def check_decoder(vae, mode):
    numbers = golden(f"vae_{mode}")
    latent = torch.from_numpy(numbers["latent"])
    assert error(vae.decode(latent), numbers["decoded"]) < TOLERANCE
    assert error(vae.decoder(latent), numbers["decoded_normalised"]) < TOLERANCE
    assert error(vae.decode(torch.from_numpy(numbers["mean"])), numbers["roundtrip"]) < TOLERANCE


def test_golden_16k(vae):
    check_encoder(vae, "16k")
    check_decoder(vae, "16k")


def test_golden_44k_decoder_alone():
    vae = load_vae(vae_tensors("44k", "decoder"), "44k", with_encoder=False)
    check_decoder(vae, "44k")


@pytest.mark.slow
def test_golden_44k():
    vae = load_vae(vae_tensors("44k"), "44k")
    check_encoder(vae, "44k")
    check_decoder(vae, "44k")


@pytest.mark.parametrize("mode", MODES)
def test_statistics(mode):
    numbers = golden(f"vae_{mode}")
    for got, key in zip(mel_statistics(mode), ("data_mean", "data_std"), strict=True):
        assert torch.equal(got, torch.from_numpy(numbers[key]))


@pytest.mark.parametrize("mode", MODES)
def test_names_shapes_and_their_order(mode):
    with torch.device("meta"):
        vae = MelVAE(mode)
    assert [(name, tuple(tensor.shape)) for name, tensor in vae.state_dict().items()] == list(manifest(f"vae_{mode}").items())


def test_ready_for_inference_and_the_file_left_alone(tensors, vae):
    untouched = {name: (tensor, tensor._version) for name, tensor in tensors.items()}
    before = torch.get_rng_state()
    again = load_vae(tensors, "16k", with_encoder=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert not again.training and not any(parameter.requires_grad for parameter in again.parameters())
    assert {name: (tensor, tensor._version) for name, tensor in tensors.items()} == untouched
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, vae.state_dict()[name]), name
        assert tensor.dtype == torch.float32 and tensor.data_ptr() != tensors[name].data_ptr()


def test_what_is_not_asked_for_is_dropped(tensors, vae):
    """Its tensors may be there or not."""
    encoder_alone = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.")}
    half = load_vae(encoder_alone, "16k", with_decoder=False)
    assert not any(name.startswith("decoder.") for name in half.state_dict())
    mel = torch.randn(1, 80, 12)
    assert torch.equal(half.encode(mel)[0], vae.encode(mel)[0])
    with pytest.raises(ValueError, match="without its decoder"):
        half.decode(torch.zeros(1, 20, 4))
    with pytest.raises(ValueError, match="ask for one of them"):
        load_vae(tensors, "16k", with_encoder=False, with_decoder=False)
    with pytest.raises(ValueError, match="without its encoder"):
        MelVAE("16k", with_encoder=False, with_decoder=False).encode(mel)


@pytest.mark.parametrize("num_frames", [2, 3, 37])
def test_lengths_and_batches(vae, num_frames):
    mel = torch.randn(2, 80, num_frames, generator=torch.Generator().manual_seed(num_frames))
    mean, std = vae.encode(mel)
    assert mean.shape == std.shape == (2, 20, num_frames // 2)
    assert torch.allclose(vae.encode(mel[1:])[0], mean[1:], atol=1e-5)
    back = vae.decode(mean)
    assert back.shape == (2, 80, num_frames // 2 * 2)
    assert torch.allclose(vae.decode(mean[1:]), back[1:], atol=1e-4)


def test_short_types(vae):
    """A cast network takes and gives float32; what is added and multiplied last is not rounded."""
    numbers = golden("vae_16k")
    vae = copy.deepcopy(vae).to(torch.bfloat16)
    types = {name: tensor.dtype for name, tensor in vae.state_dict().items()}
    assert {name for name, dtype in types.items() if dtype == torch.float32} == {
        "data_mean",
        "data_std",
        "encoder.learnable_gain",
        "decoder.learnable_gain",
    }
    assert types[ONE_WEIGHT] == torch.bfloat16
    mean, _ = vae.encode(torch.from_numpy(numbers["mel"]))
    mel = vae.decode(torch.from_numpy(numbers["latent"]).to(torch.bfloat16))
    assert mean.dtype == mel.dtype == torch.float32
    assert error(mean, numbers["mean"]) < 0.05
    assert error(mel, numbers["decoded"]) < 0.05


def test_tensors_that_do_not_fit_are_named():
    def refusal(change, **halves):
        state = meta_tensors()
        change(state)
        with pytest.raises(UserError) as refused:
            load_vae(state, "16k", **halves)
        assert len(refused.value.sentences) == 1
        return str(refused.value)

    qkv = "decoder.mid.attn_1.qkv.weight is"
    assert f"16k VAE: {qkv} missing; get" in refusal(lambda state: state.pop(ONE_WEIGHT))
    assert f"{qkv} (4608, 1536, 3), want (4608, 1536, 1);" in refusal(lambda state: state.update({ONE_WEIGHT: torch.empty(4608, 1536, 3)}))
    assert "decoder.bias is not a tensor of it;" in refusal(lambda state: state.update({"decoder.bias": torch.empty(1)}))
    assert f"{qkv} no tensor but str;" in refusal(lambda state: state.update({ONE_WEIGHT: "raw"}))
    assert "(and 1 more)" in refusal(lambda state: [state.pop(name) for name in list(state)[-4:]])
    bent = {"encoder.conv_in.weight": torch.empty(384, 80, 1)}
    assert "encoder.conv_in.weight is (384, 80, 1), want (384, 80, 3)" in refusal(lambda state: state.update(bent), with_encoder=False)
    assert "encoder.odd is not a tensor of it" in refusal(lambda state: state.update({"encoder.odd": torch.empty(1)}), with_encoder=False)


def test_the_file_of_the_other_mode_is_recognised():
    with pytest.raises(
        UserError, match=r"not of the 44k VAE: data_mean is \(1, 80, 1\), want .* they are of the 16k one: choose that mode"
    ):
        load_vae(meta_tensors("16k"), "44k")
    with pytest.raises(UserError, match="no mode '48k'"):
        load_vae(meta_tensors("16k"), "48k")


def test_weights_are_normalised_once_only(vae):
    with pytest.raises(UserError, match="normalised already; load the published file"):
        load_vae(vae.state_dict(), "16k")
