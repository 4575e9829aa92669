"""A small CLIP with the published widths, as the directory open_clip publishes models in."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.golden.fill import normals, weight

SMALL_MODEL = {
    "embed_dim": 1024,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 378, "layers": 2, "width": 64, "head_width": 32, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 1, "mlp_ratio": 0.5},
}
PICTURES = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    if name == "token_embedding.weight":
        # Row k is a window of one line of numbers that starts at its k-th: 200 MB of rows in 200 kB of file and memory.
        return torch.from_numpy(normals(name, (sum(shape),))).as_strided(shape, (1, 1))
    return torch.from_numpy(np.asarray(weight(name, shape))).half()


def write_small_clip(folder: Path) -> Path:
    """Write `open_clip_config.json` and `open_clip_pytorch_model.bin` (15 MB, the same bytes every time) into a folder."""
    from open_clip.model import CLIP

    with torch.device("meta"):
        wanted = CLIP(**SMALL_MODEL).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _tensor(name, tuple(tensor.shape)) for name, tensor in wanted.items()}
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": SMALL_MODEL, "preprocess_cfg": PICTURES}))
    return folder
