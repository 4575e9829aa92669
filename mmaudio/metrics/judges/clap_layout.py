"""The published LAION-CLAP file (HTSAT-base without fusion, RoBERTa-base; Wu et al. 2023, 2211.06687) as two models of transformers.

The file has the names of LAION's own package, transformers' models have others. What stands here was verified in two ways: the names
and shapes wanted are those of the model that laion_clap 1.1.7 builds for HTSAT-base (kept as a golden manifest), and with the same
weights both give the same embeddings of sounds and of tokens, to 2e-7 (kept as golden numbers). The published file itself was not at
hand: tensors that this model does not have are refused by name, but for the index that RoBERTa had until transformers 4.31.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmaudio.base.tensor_files import Shapes, mismatches, named_tensors, read_tensor_file, refusal

AUDIO, TEXT = "audio", "text"
NUM_TOKENS, MAX_POSITIONS = 50_265, 514
AUDIO_SIZES = {"depths": [2, 2, 12, 2], "patch_embeds_hidden_size": 128, "num_attention_heads": [4, 8, 16, 32], "hidden_size": 1024}
TEXT_SIZES = {"vocab_size": NUM_TOKENS, "max_position_embeddings": MAX_POSITIONS, "layer_norm_eps": 1e-5}

# Of the file, but of no use for embeddings: its spectrogram (made here), masks (transformers makes them), and heads of other tasks
UNUSED = re.compile(
    r"audio_branch\.(spectrogram_extractor\.|logmel_extractor\.|tscam_conv\.|head\.|layers\.\d\.blocks\.\d+\.attn_mask$)"
    r"|(audio|text)_transform\.|logit_scale_[at]$|text_branch\.embeddings\.position_ids$"
)
# transformers → the file; the second group is of the sound branch alone
_NAMES = (
    (r"^text_model\.", "text_branch."),
    (r"^audio_model\.audio_encoder\.batch_norm\.", "audio_branch.bn0."),
    (r"^audio_model\.audio_encoder\.", "audio_branch."),
    (r"projection\.linear1\.", "projection.0."),
    (r"projection\.linear2\.", "projection.2."),
)
_BLOCK_NAMES = (
    (r"\.attention\.self\.(query|key|value)\.", ".attn.qkv."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
_THIRDS = ("query", "key", "value")  # in the order in which the file has them in one tensor
_CONSTANTS = ("text_model.embeddings.position_ids", "text_model.embeddings.token_type_ids")  # of transformers alone


def published_name(name: str) -> str:
    """What a tensor of transformers is called in the file; the same name for queries, keys and values of a sound block."""
    for theirs, published in _NAMES:
        name = re.sub(theirs, published, name)
    for theirs, published in _BLOCK_NAMES if name.startswith("audio_branch.") else ():
        name = re.sub(theirs, published, name)
    return name


def _third(name: str) -> int | None:
    """Which third of the file's tensor a tensor of transformers is; None if it is all of it."""
    found = re.search(r"^audio_model\..*\.attention\.self\.(query|key|value)\.", name)
    return _THIRDS.index(found[1]) if found else None


def published_shapes(network: nn.Module) -> Shapes:
    """Name → shape of what the file has to hold for a branch."""
    shapes = {}
    for name, tensor in network.state_dict().items():
        if name not in _CONSTANTS:
            rows = (3,) if _third(name) is not None else ()
            shapes[published_name(name)] = tuple(tensor.shape) if not rows else (3 * tensor.shape[0], *tensor.shape[1:])
    return shapes


def hollow(branch: str) -> nn.Module:
    """The model of one branch, without memory: `input_features`, or `input_ids` and `attention_mask`, → embeddings (n, 512)."""
    from transformers import ClapAudioConfig, ClapTextConfig
    from transformers.models.clap.modeling_clap import ClapAudioModelWithProjection, ClapTextModelWithProjection

    with torch.device("meta"):
        if branch == AUDIO:
            network: nn.Module = ClapAudioModelWithProjection(ClapAudioConfig(**AUDIO_SIZES))
        else:
            network = ClapTextModelWithProjection(ClapTextConfig(**TEXT_SIZES))
    return network


def _scalars() -> list[Any]:
    """What a training checkpoint holds beside tensors: NumPy's numbers, as its learning rate may be, under both of their names."""
    make_scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [(make_scalar, "numpy.core.multiarray.scalar"), (make_scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of the published file by name: of a training checkpoint its `state_dict`, without the prefix of parallel training.

    By mmap, so what is not used (the optimizer's moments are twice the weights) is not read.
    Raises: UserError for a file that is missing, torn, or of anything else.
    """
    with torch.serialization.safe_globals(_scalars()):
        content = read_tensor_file(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    return {name.removeprefix("module."): tensor for name, tensor in named_tensors(content, path).items()}


def load_branch(state: Mapping[str, Tensor], branch: str) -> nn.Module:
    """One branch with the weights of the published file, for inference, in float32 on the CPU; tensors are taken over, not copied.

    Raises: UserError naming the first tensors that are missing, unknown or of another shape.
    """
    network = hollow(branch)
    others = (f"{TEXT if branch == AUDIO else AUDIO}_branch.", f"{TEXT if branch == AUDIO else AUDIO}_projection.")
    own = {name: tensor for name, tensor in state.items() if not UNUSED.match(name) and not name.startswith(others)}
    if wrong := mismatches(own, published_shapes(network)):
        raise refusal(wrong, f"LAION-CLAP (HTSAT-base without fusion), its {branch} branch")
    places = torch.arange(MAX_POSITIONS)[None]
    constants = dict(zip(_CONSTANTS, (places, torch.zeros_like(places)), strict=True))
    network.load_state_dict({name: _tensor_for(name, own, constants) for name in network.state_dict()}, assign=True)
    return network.eval().requires_grad_(False)


def _tensor_for(name: str, own: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> Tensor:
    if name in constants:
        return constants[name]
    tensor, third = own[published_name(name)].detach(), _third(name)
    tensor = tensor if third is None else tensor.chunk(3)[third]
    return tensor.float() if tensor.is_floating_point() else tensor  # an index of places stays one of integers
