"""Stores of a second a clip, made of numbers: enough to train on, written in no time."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.specs import CLIP_WIDTH, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec
from mmaudio.settings.data_sources import DataSettings, SourceSettings
from mmaudio.settings.schema import TrainSettings
from mmaudio.store import Block, write_store

DURATION_S = 1.0
SPEC = AudioSpec("16k", DURATION_S)


def write_tiny_store(
    folder: Path, name: str, kind: str, num_rows: int, *, mode: str = "16k", layout: str = "compact", ids: Sequence[str] = ()
) -> Path:
    """Write a store of `num_rows` rows; returns its folder. Ids are `<name>-<row>` where none are given, captions repeat."""
    spec = AudioSpec(mode, DURATION_S)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normals(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    ids = list(ids) or [f"{name}-{row}" for row in range(num_rows)]
    captions = [f"sound {row % 3}" for row in range(num_rows)]
    columns = {
        "mean": 2 + 3 * normals(num_rows, spec.num_latents, spec.latent_channels),
        "std": 0.1 * normals(num_rows, spec.num_latents, spec.latent_channels).abs(),
    }
    if kind == "video":
        columns["clip_features"] = normals(num_rows, spec.num_clip_frames, CLIP_WIDTH)
        columns["sync_features"] = normals(num_rows, spec.num_sync_tokens, SYNC_WIDTH)
    texts = {caption: normals(TEXT_TOKENS, TEXT_WIDTH) for caption in dict.fromkeys(captions)}
    write_store(
        folder,
        name,
        kind=kind,
        layout=layout,
        spec=spec,
        backend="lite",
        index=list(zip(ids, captions, strict=True)),
        blocks=[Block(ids, captions, columns, texts)],
        null_text=normals(TEXT_TOKENS, TEXT_WIDTH),
    )
    return folder / name


def data_overrides(folder: Path) -> list[str]:
    """Command-line settings that train on `birds` (video) and `winds` (audio) and validate on `lock_run`, on the CPU."""
    overrides = [f"data.{name}.tsv={folder / name}.tsv" for name in ("birds", "winds", "held")]
    overrides += [f"data.{name}.memmap_dir={folder / name}" for name in ("birds", "winds", "held")]
    return [*overrides, "data.train=[birds, winds]", "data.val=[held]", "data.test=[]"]


def write_tiny_data(folder: Path) -> Path:
    """The three stores of `data_overrides`."""
    write_tiny_store(folder, "birds", "video", 6)
    write_tiny_store(folder, "winds", "audio", 4)
    write_tiny_store(folder, "held", "video", 5)
    return folder


def tiny_settings(
    folder: Path, exp_id: str, train: tuple[str, ...] = ("birds", "winds"), val: tuple[str, ...] = (), **changes: Any
) -> TrainSettings:
    """Short training on stores in a folder, by default those of `write_tiny_data`, on the CPU; `changes` are other settings."""
    sources = {name: SourceSettings(tsv=f"{folder / name}.tsv", memmap_dir=str(folder / name)) for name in (*train, *val)}
    settings = TrainSettings(
        model="nano_16k",
        exp_id=exp_id,
        backend="lite",
        device="cpu",
        duration_s=DURATION_S,
        batch_size=4,
        linear_warmup_steps=2,
        log_extra_interval=0,
        learning_rate=1e-3,
        data=DataSettings(sources, train, val),
    )
    return replace(settings, **changes)


_CLIP = ("model=nano_16k", "backend=lite", f"duration_s={DURATION_S}")
TINY = (*_CLIP, "device=cpu", "batch_size=4", "linear_warmup_steps=2", "log_extra_interval=0")
