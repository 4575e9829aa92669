"""The synthetic caches that the golden metrics were made of."""

import json
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.metrics.feature_cache import write_features
from tests.golden.fill import GOLDEN, given

METRICS = json.loads((GOLDEN / "metrics.json").read_text())
NAMES: list[str] = METRICS["names"]
AWKWARD_IDS = [  # of the lengths that av-bench takes for file names, with dots, and like numbers
    "zxpo56cpUBU",
    "zxpo56cpUBU_000007",
    "zxpo56cpUBU_000007-0",
    "Y---g-f_I2yQ_000001_0",
    "000000014_zxpo56cpUBU_000007-0",
    "a.b.c",
    "1e5",
]


def pair(tag: str, field: str, shape: tuple[int, ...], scale: float, place: int) -> tuple[Tensor, Tensor]:
    """Features of the real and of the generated clip."""
    real, own = (given(f"metrics:{tag}:{field}:{side}:{place}", *shape) for side in ("gt", "pred"))
    return scale * real, scale * (0.7 * real + 0.6 * own + 0.1)


# stem → (reference stem, predicted stem, tag, field, shape, scale)
PLAIN = (
    ("vggish_features", "vggish_features", "vggish", "x", (8, 12), 1),
    ("passt_features_embed", "passt_features_embed", "passt", "e", (10,), 1),
    ("passt_logits", "passt_logits", "passt", "l", (20,), 2),
    ("imagebind_video", "imagebind_audio", "ib", "x", (32,), 1),
    ("clap_laion_text", "clap_laion_audio", "lc", "x", (24,), 1),
    ("clap_ms_text", "clap_ms_audio", "mc", "x", (28,), 1),
)
Side = dict[str, dict[str, object]]


def golden_features() -> tuple[Side, Side]:
    """(reference, predicted): stem → id → value."""
    reference: Side = {"pann_features": {}, "synchformer_video": {}}
    predicted: Side = {"pann_features": {}, "synchformer_audio": {}}
    for place, name in enumerate(NAMES):
        wide, logits = pair("pann", "2048", (16,), 1, place), pair("pann", "logits", (20,), 2, place)
        for side, which in ((reference, 0), (predicted, 1)):
            side["pann_features"][name] = {"2048": wide[which], "logits": logits[which]}
        reference["synchformer_video"][name] = given(f"metrics:sv:{place}", 24, 8, 768)
        predicted["synchformer_audio"][name] = given(f"metrics:sa:{place}", 24, 6, 768)
        for of_reference, of_predicted, *rule in PLAIN:
            real, generated = pair(*rule, place)
            reference.setdefault(of_reference, {})[name] = real
            predicted.setdefault(of_predicted, {})[name] = generated
    return reference, predicted


def write_side(folder: Path, side: Side, without: str = "") -> None:
    """Write cache files, of all clips but one."""
    for stem, features in side.items():
        write_features(folder, stem, {name: value for name, value in features.items() if name != without})


def write_golden_caches(root: Path, missing_reference: str = "", missing_predicted: str = "") -> tuple[Path, Path]:
    """Both folders."""
    folders = root / "reference", root / "predicted"
    for folder, side, missing in zip(folders, golden_features(), (missing_reference, missing_predicted), strict=True):
        write_side(folder, side, missing)
    return folders


def tree(value: object) -> object:
    """A value with its tensors as lists, to compare."""
    if isinstance(value, dict):
        return {name: tree(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else value
