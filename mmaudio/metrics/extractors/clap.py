"""LAION-CLAP.

The file has the names of LAION's own package, transformers' models have others. What stands here was verified in two ways: the names
and shapes wanted are those of the model that laion_clap 1.1.7 builds for HTSAT-base (kept as a golden manifest), and with the same
weights both give the same embeddings of sounds and of tokens, to 2e-7 (kept as golden numbers). The published file itself was not at
hand: tensors that this model does not have are refused by name, but for the index that RoBERTa had until transformers 4.31.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import parse_json
from mmaudio.files.tensor_files import Shapes, mismatches, named_tensors, read_tensor_file, refusal
from mmaudio.metrics.extractors.waves import read_centred
from mmaudio.weights import CATALOGUE, locate

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


# ---- The vector of a sound, to be compared with that of a caption (Wu et al. 2023, 2211.06687)

RATE_HZ = 48_000
NUM_SAMPLES = 480_000  # 10 s
FFT_SAMPLES, HOP_SAMPLES, NUM_BANDS = 1024, 480, 64
LOWEST_HZ, HIGHEST_HZ = 50.0, 14_000.0
POWER_FLOOR = 1e-10


@lru_cache(maxsize=1)
def _mel_filters() -> Tensor:
    """(k, m), of Slaney's scale and area."""
    num_bins = FFT_SAMPLES // 2 + 1
    return torchaudio.functional.melscale_fbanks(num_bins, LOWEST_HZ, HIGHEST_HZ, NUM_BANDS, RATE_HZ, norm="slaney", mel_scale="slaney")


def fill_ten_seconds(wave: Tensor) -> Tensor:
    """(samples,) → (480000,): repeated as often as it fits whole, then silence; of a longer sound the start.

    The published loader cuts a longer sound at random.
    """
    repeats = max(1, NUM_SAMPLES // len(wave))
    wave = wave.repeat(repeats)[:NUM_SAMPLES]
    return F.pad(wave, (0, NUM_SAMPLES - len(wave)))


def log_mel(wave_ns: Tensor) -> Tensor:
    """(n, s) at 48 kHz → decibels (n, f, m), one frame every 10 ms, full scale 1."""
    window = torch.hann_window(FFT_SAMPLES, device=wave_ns.device)
    spectrum_nkf = torch.stft(wave_ns, FFT_SAMPLES, HOP_SAMPLES, window=window, pad_mode="reflect", return_complex=True)
    power_nfk = spectrum_nkf.abs().square().transpose(1, 2)
    return 10.0 * torch.log10((power_nfk @ _mel_filters().to(wave_ns.device)).clamp_min(POWER_FLOOR))


class ClapSound:
    """Waves to unit vectors."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network.to(device), device

    def __call__(self, waves: Sequence[Tensor]) -> dict[str, Tensor]:
        """(samples,) at 48 kHz each, brought to 10 s → (n, 512) of length 1."""
        wave_ns = torch.stack([fill_ten_seconds(wave) for wave in waves]).to(self.device)
        embeddings = self.network(input_features=log_mel(wave_ns)[:, None]).audio_embeds
        return {"clap_laion_audio": F.normalize(embeddings, dim=-1)}


def read_clap_sound(path: Path, duration_s: float) -> Tensor:
    """(samples,) of a file's sound at 48 kHz. Raises: MediaError."""
    return read_centred(path, RATE_HZ, duration_s)


def load_clap_sound(places: Mapping[str, str | Path], device: torch.device) -> ClapSound:
    """The sound branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    return ClapSound(load_branch(read_published(locate("clap_laion", places.get("clap_laion"))), AUDIO), device)


# ---- The vector of a caption, to be compared with that of a sound

CONTEXT_TOKENS = 77  # start and end among them; a longer caption is cut, as published


class ClapText:
    """Captions to unit vectors."""

    def __init__(self, network: nn.Module, tokenizer: Any, device: torch.device) -> None:
        self.network, self.tokenizer, self.device = network.to(device), tokenizer, device

    def __call__(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """n captions → (n, 512) of length 1."""
        tokens = self.tokenizer(list(captions), padding="max_length", truncation=True, max_length=CONTEXT_TOKENS, return_tensors="pt").to(
            self.device
        )
        embeddings = self.network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).text_embeds
        return {"clap_laion_text": F.normalize(embeddings, dim=-1)}


def read_tokenizer(folder: Path) -> Any:
    """RoBERTa's byte-pair tokenizer of the `vocab.json` and `merges.txt` in a folder. Raises: UserError for files of another one."""
    from transformers import RobertaTokenizer

    vocabulary, merges = (folder / file for file in CATALOGUE["roberta_tokenizer"].files)
    try:
        numbers = parse_json(vocabulary.read_text(encoding="utf-8"))
        pairs = [tuple(line.split(" ")) for line in merges.read_text(encoding="utf-8").split("\n")[1:] if line]
        fits = len(numbers) == NUM_TOKENS and [numbers[name] for name in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
        if fits and all(len(pair) == 2 for pair in pairs):
            return RobertaTokenizer(vocab=numbers, merges=pairs, model_max_length=CONTEXT_TOKENS)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read: {error.strerror}; name a folder with {vocabulary.name} and {merges.name}"
        ) from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{folder} holds no tokenizer of RoBERTa with {NUM_TOKENS} tokens; fetch it: `mmaudio weights fetch roberta_tokenizer`")


def read_clap_text(caption: str, duration_s: float) -> str:  # noqa: ARG001 - a caption lasts no time
    """A caption, as it is."""
    return caption


def load_clap_text(places: Mapping[str, str | Path], device: torch.device) -> ClapText:
    """The text branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    path, folder = (locate(name, places.get(name)) for name in ("clap_laion", "roberta_tokenizer"))
    return ClapText(load_branch(read_published(path), TEXT), read_tokenizer(folder), device)
