"""A flipped byte in any file of tensors that this program writes is noticed, or has no effect on any tensor."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.ema_snapshots import SnapshotFolder, average_entries, save_snapshots
from mmaudio.checkpoints.export import convert, weights_metadata, write_export
from mmaudio.checkpoints.load import load_checkpoint, load_weights
from mmaudio.checkpoints.run_files import RunFiles, RunState, WeightsRecord
from mmaudio.checkpoints.save import save_checkpoint, save_file, save_weights
from mmaudio.files.checksums import DamagedFileError, carried_checksums
from mmaudio.files.tensor_files import read_tensor_file
from mmaudio.metrics.extractors.cache_update import PartWriter, read_parts
from mmaudio.metrics.feature_cache import read_features, write_features
from mmaudio.network import build_network
from mmaudio.store import Store
from mmaudio.store.format import read_null_text, write_null_text
from tests.trainer.tiny_stores import write_tiny_store

SEED = int(os.environ.get("SOAK_SEED", "0"))
RECORD = WeightsRecord("nano_16k", "16k", 1.0, "lite", 5, "birds")


def checkpoint(path: Path) -> dict[str, Any]:
    return load_checkpoint(path).entries()


def average(path: Path) -> dict[str, torch.Tensor]:
    found = SnapshotFolder.open(path.parent, [0.05])
    return found.sums([found.fit(0.05)])[0]


def features(path: Path) -> dict[str, Any]:
    return read_features(path.parent, path.stem)


def parts(path: Path) -> dict[str, Any]:
    (part,) = read_parts(path.parents[2], "toy", {"judge": "toy"})  # a damaged one is removed, which fails this
    return part.features


def null_text_of_store(path: Path) -> torch.Tensor:
    feature = Store.open(path.parent / "s.tsv", path.parent / "s").null_text()
    assert feature is not None
    return feature


# What each file is called below a folder that holds them all, and how its tensors are read
KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "last weights": ("run/birds_last.pth", load_weights),
    "the weights before": ("run/birds_shadow.pth", load_weights),
    "averaged weights": ("run/birds_ema_final.pth", load_weights),
    "checkpoint": ("run/birds_ckpt_last.pth", checkpoint),
    "the checkpoint before": ("run/birds_ckpt_shadow.pth", checkpoint),
    "weights of a checkpoint": ("run/birds_ckpt_last.pth", load_weights),
    "EMA snapshot": ("run/ema_ckpts/0.5.pt", average),
    "export": ("run/export.safetensors", load_weights),
    "export as pth": ("run/export.pth", load_weights),
    "null text": ("empty_string.pth", read_null_text),
    "null text of a store": ("store/s.empty_string.pth", null_text_of_store),
    "feature cache": ("cache/passt_logits.pth", features),
    "part of a feature cache": ("cache/.parts/toy/0000-000000.pth", parts),
}


def weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(build_network("nano_16k", duration_s=1.0, latent_mean=torch.randn(20), latent_std=torch.rand(20) + 0.5).state_dict())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind."""
    folder = tmp_path_factory.mktemp("made")
    files = RunFiles(folder / "run", "birds")
    for seed in (1, 2):
        values = weights(seed)
        moments = {index: {"exp_avg": value, "step": torch.tensor(5.0)} for index, value in enumerate(values.values())}
        optimizer = {"state": moments, "param_groups": [{"lr": 1e-4}]}
        ema = average_entries(values, 5, True)
        save_checkpoint(files, RunState(seed, values, optimizer, {"last_epoch": seed}, ema, {"best": {"value": 1.0}}), RECORD)
        save_weights(files, values, RECORD)
    save_file(files.ema_final, weights(3), RECORD)
    save_snapshots(files.ema_folder, [weights(4)], 5)
    for name in ("export.safetensors", "export.pth"):
        write_export(files.folder / name, convert(weights(5), torch.bfloat16), weights_metadata(RECORD, weights(5), "bf16"))
    write_null_text(folder / "empty_string.pth", torch.randn(77, 1024))
    write_tiny_store(folder / "store", "s", "video", 2, layout="published")
    (folder / "cache").mkdir()
    write_features(folder / "cache", "passt_logits", {f"clip {index}": torch.randn(527) for index in range(20)})
    writer = PartWriter(folder / "cache", "toy", {"judge": "toy"}, 0)
    writer.folder.mkdir(parents=True)
    for index in range(20):
        writer.add(f"clip {index}", "a stamp", {"passt_logits": torch.randn(527)})
    writer.flush()
    return folder


def flat(nest: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of a nest of dictionaries, by its place."""
    if isinstance(nest, dict):
        return {place: leaf for key, value in nest.items() for place, leaf in flat(value, f"{name}/{key}").items()}
    return {name: nest}


def same(found: Any, want: Any) -> bool:
    leaves, wanted = flat(found), flat(want)
    return list(leaves) == list(wanted) and all(
        torch.equal(leaves[name], value) and leaves[name].dtype == value.dtype if isinstance(value, torch.Tensor) else leaves[name] == value
        for name, value in wanted.items()
    )


def flips(content: bytes, path: Path, draw: random.Random, count: int) -> Iterator[bytes]:
    """Contents with one byte changed: half of them anywhere, half outside of what has a checksum (names, sizes, places)."""
    covered = sorted(span for each in carried_checksums(path) for span in each.spans)
    assert covered, "it carries checksums"
    gaps = [(before[1], after[0]) for before, after in zip([(0, 0), *covered], [*covered, (len(content), 0)], strict=True)]
    outside = [place for start, end in gaps for place in range(start, end)]
    for number in range(count):
        place = draw.choice(outside) if number % 2 else draw.randrange(len(content))
        change = 1 << draw.randrange(8) if number % 4 < 2 else draw.randrange(1, 256)
        yield content[:place] + bytes([content[place] ^ change]) + content[place + 1 :]


def refusal(read: Callable[[Path], Any], path: Path, want: Any) -> tuple[str, ...]:
    """The sentences with which a file is refused; none if it is read, and then it holds what it held."""
    try:
        assert same(read(path), want), "a changed tensor was used"
    except UserError as error:
        return error.sentences
    except ValueError:  # one part of a cache was wanted, and it is removed and made anew
        return () if path.exists() else (str(path),)
    return ()


def check(made: Path, folder: Path, kind: str, count: int) -> tuple[int, int]:
    """Flip bytes. Returns: how often that was noticed, and how often it had no effect."""
    name, read = KINDS[kind]
    shutil.copytree(made, folder, dirs_exist_ok=True)
    path, content, noticed = folder / name, (made / name).read_bytes(), 0
    want = read(path)
    for flipped in flips(content, made / name, random.Random(f"{SEED} {kind}"), count):
        path.unlink(missing_ok=True)  # what was read may be mapped
        path.write_bytes(flipped)
        sentences = refusal(read, path, want)
        assert len(sentences) <= 1
        assert all(str(path) in sentence for sentence in sentences)
        noticed += len(sentences)
    return noticed, count - noticed


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_among_the_tensors_is_noticed(made, tmp_path, kind):
    name, read = KINDS[kind]
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    start, end = max((span for each in carried_checksums(path) for span in each.spans), key=lambda span: span[1] - span[0])
    with open(path, "r+b") as file:
        file.seek((start + end) // 2)
        value = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([value ^ 1]))
    with pytest.raises(DamagedFileError, match=r"is damaged.*the checksum of its part .*/data/|is damaged, or was changed"):
        read_tensor_file(path)
    with pytest.raises((UserError, ValueError)):
        read(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_three_flipped_bytes(made, tmp_path, kind):
    check(made, tmp_path, kind, 3)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_flipped_bytes(made, tmp_path, kind):
    noticed, without_effect = check(made, tmp_path, kind, 200)
    print(f"{kind}: {noticed} noticed, {without_effect} without effect")
    assert noticed >= 90
