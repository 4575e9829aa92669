"""Loading weights: the right variant loads, stale keys are dropped, a wrong one is named."""

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.network import build_network, find_variant, load_network


def test_weights_load_back_with_stale_keys_dropped():
    network = build_network("nano_16k", duration_s=2.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20))
    state = network.state_dict() | {"t_embed.freqs": torch.zeros(3), "latent_rot": torch.zeros(1)}
    names = list(state)
    loaded = load_network(state, "nano_16k", duration_s=4.0)
    assert list(state) == names
    assert loaded.latent_seq_len == 125
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_wrong_variant_is_refused_by_tensor_and_the_right_one_named():
    state = build_network("nano_16k").state_dict()
    with pytest.raises(UserError, match=r"latent_mean is \(1, 1, 20\), want \(1, 1, 40\).*weights of nano_16k"):
        load_network(state, "nano_44k")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match="did you mean 'small_16k'"):
        find_variant("smal_16k")


@pytest.mark.parametrize(("sizes", "message"), [({"num_heads": 7}, "hidden_dim is 64"), ({"fused_depth": 3}, "fused_depth is 3")])
def test_contradictory_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_network("nano_16k", **sizes)
