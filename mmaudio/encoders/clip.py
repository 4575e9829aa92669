"""CLIP and its tokenizer.

Radford et al. 2021 (2103.00020); published features are of DFN5B's ViT-H/14 (Fang et al. 2023, 2309.17425). The model classes are
open_clip's; modules carry the names of the file.

Axes: n picture or caption, l token, w width.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.base.specs import CLIP_SIDE_PX, TEXT_TOKENS
from mmaudio.files.atomic import parse_json
from mmaudio.files.tensor_files import assign_, mismatches, read_state_dict, refusal, shapes_of


@lru_cache(maxsize=1)
def _tokenizer():  # type: ignore[no-untyped-def]  # open_clip is imported only when a caption is tokenised: it takes seconds
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def tokenize(captions: list[str]) -> Tensor:
    """CLIP's byte-pair tokens: (captions, 77) int64; start, tokens, end, zeros; a longer caption is cut before its end token."""
    return _tokenizer()(captions, context_length=TEXT_TOKENS)


CONFIG_FILE = "open_clip_config.json"
# The published name first: it is the one whose checksum is known.
WEIGHT_FILES = ("open_clip_pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
VOCABULARY = 49_408
# Where a directory does not say: the figures that CLIP was published with.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Clip(nn.Module):
    """The towers of an open_clip model that were asked for; the others are None.

    `visual` and `transformer` are the parts to compile. `image_width` and `text_width` are the widths of the vectors.
    """

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float], *, image: bool, text: bool) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        self.image_width: int = model.visual.output_dim
        self.text_width: int = model.transformer.width
        self.visual = model.visual if image else None
        self.transformer = model.transformer if text else None
        if text:
            self.token_embedding = model.token_embedding
            self.positional_embedding = model.positional_embedding
            self.ln_final = model.ln_final
            # Not in the file, so a model made without memory has it without values.
            mask_ll = torch.full((TEXT_TOKENS, TEXT_TOKENS), -torch.inf, device="cpu").triu(1) if model.attn_mask is not None else None
            self.register_buffer("attn_mask", mask_ll, persistent=False)

    def _unit(self, x: Tensor) -> Tensor:
        """Vectors of length 1; lengths are taken in float32, since half precision holds neither the square sums nor the floor."""
        return F.normalize(x.float(), dim=-1, eps=1e-12).to(x.dtype)

    def encode_images(self, frames: Tensor, *, max_frames: int | None = None) -> Tensor:
        """Pictures to unit vectors.

        Args:
            frames: (n, 3, 384, 384) in [0, 1], of any floating dtype. With patches of 14 pixels the last 6 rows and columns are not
                seen: the published models were trained on such features.
            max_frames: most pictures encoded at once; it bounds the memory and does not change the result.

        Returns: (n, width) in the weights' dtype.
        Raises: ValueError for another frame size.
        """
        if self.visual is None:
            raise ValueError("this CLIP was loaded without its image tower; load it with image=True")
        if frames.ndim != 4 or not len(frames) or tuple(frames.shape[1:]) != (3, CLIP_SIDE_PX, CLIP_SIDE_PX):
            raise ValueError(f"frames have shape {tuple(frames.shape)}; want (frames, 3, {CLIP_SIDE_PX}, {CLIP_SIDE_PX})")
        mean = torch.tensor(self.mean, device=frames.device)[:, None, None]
        std = torch.tensor(self.std, device=frames.device)[:, None, None]
        dtype = self.visual.proj.dtype
        chunks = frames.split(max_frames or len(frames))
        return torch.cat([self._unit(self.visual(((chunk - mean) / std).to(dtype))) for chunk in chunks])

    def encode_text(self, captions: list[str]) -> Tensor:
        """Captions to a unit vector for each token place, those after the end too: (n, 77, width) in the weights' dtype.

        There is no pooling and no projection.
        """
        if self.transformer is None:
            raise ValueError("this CLIP was loaded without its text tower; load it with text=True")
        tokens_nl = tokenize(captions).to(self.positional_embedding.device)
        x_nlw = self.token_embedding(tokens_nl) + self.positional_embedding
        return self._unit(self.ln_final(self.transformer(x_nlw, attn_mask=self.attn_mask)))


def load_clip(folder: Path, *, image: bool = True, text: bool = True) -> Clip:
    """CLIP from an open_clip model directory, ready for inference, in float32 on the CPU.

    The weights file is read by mmap and its tensors are taken over, so they are in memory once, and only those of the towers
    asked for.

    Args:
        folder: holds `open_clip_config.json` and the weights, as open_clip saves and publishes models.
        image: keep the image tower.
        text: keep the text tower.

    Raises: UserError for a file that is missing or cannot be read, a model of another kind than an image and a text transformer
        for 384-pixel pictures and 77 of CLIP's tokens, and weights that are not of the model, naming the first tensors.
    """
    config = _read_config(Path(folder) / CONFIG_FILE)
    return build_clip(config, _read_weights(Path(folder)), image=image, text=text, source=str(folder))


def build_clip(config: Mapping[str, Any], state: Mapping[str, Tensor], *, image: bool = True, text: bool = True, source: str) -> Clip:
    """CLIP from what an open_clip model directory holds; as `load_clip`. `source` is what the sentences call it."""
    with torch.device("meta"):
        model = _open_clip_model(config["model_cfg"], source)
    if wrong := mismatches(state, shapes_of(model)):
        raise refusal(wrong, f"the model that {source} describes")
    pictures = config.get("preprocess_cfg", {})
    clip = Clip(model, pictures.get("mean", MEAN), pictures.get("std", STD), image=image, text=text)
    assign_(clip, state)
    return clip


def _open_clip_model(model_cfg: Mapping[str, Any], source: str) -> Any:
    """open_clip's CLIP for a configuration. Raises: UserError."""
    from open_clip.model import CLIP  # takes seconds

    try:
        vision, words = dict(model_cfg["vision_cfg"]), dict(model_cfg["text_cfg"])
        rest = {key: value for key, value in model_cfg.items() if key not in ("vision_cfg", "text_cfg")}
        if foreign := [key for key in ("timm_model_name", "hf_model_name", "hf_tokenizer_name") if vision.get(key) or words.get(key)]:
            raise TypeError(f"{foreign[0]} is of another library")
        model = CLIP(**rest, vision_cfg=vision | {"output_tokens": False}, text_cfg=words)
    except (KeyError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(f"{source} does not describe a CLIP of open_clip's own two transformers ({error}); choose another model") from None
    grid = getattr(model.visual, "grid_size", None)
    if grid is None or any(CLIP_SIDE_PX // px != patches for px, patches in zip(model.visual.patch_size, grid, strict=True)):
        raise UserError(f"{source} has no image transformer for pictures of {CLIP_SIDE_PX} pixels a side; choose another model")
    found, want = (model.context_length, model.vocab_size), (TEXT_TOKENS, VOCABULARY)
    if found != want:
        raise UserError(f"{source} takes captions of (tokens, vocabulary) {found}; CLIP's tokenizer gives {want}; choose another model")
    return model


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
        pictures = config.get("preprocess_cfg", {})
        of_channels = [[float(value) for value in pictures.get(name, (1, 1, 1))] for name in ("mean", "std")]
        if isinstance(config["model_cfg"], Mapping) and all(len(values) == 3 for values in of_channels):
            return config
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; CLIP is read from an open_clip model directory") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} describes no open_clip model: want a model_cfg, and a mean and std of three; copy or fetch it anew")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """The named tensors of the folder's weights file, by mmap."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{folder} holds no weights: there is no {WEIGHT_FILES[0]} in it, nor {' or '.join(WEIGHT_FILES[1:])}")
    return read_state_dict(path)
