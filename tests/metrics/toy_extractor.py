"""An extractor without a network: what `extract_features` does around a real one, in milliseconds. Also run as a process of its own."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from mmaudio.distributed.collectives import process_group
from mmaudio.distributed.ranks import read_ranks
from mmaudio.metrics.extractors import available as table
from mmaudio.metrics.extractors.available import SOUND, FeatureExtractor
from mmaudio.metrics.extractors.cache_features import extract_features
from mmaudio.metrics.extractors.waves import read_centred, read_exactly

RATE_HZ = 8000
STEMS = ("passt_features_embed", "passt_logits")


class ToyExtractor(FeatureExtractor):
    """Features of a sound are its first samples, of a caption its length. Counts how often it is loaded and asked."""

    asked: list[int] = []  # noqa: RUF012 - of all instances
    kills_after: int | None = None

    def read(self, source, duration_s):
        if isinstance(source, str):
            return source
        return (read_exactly if self.min_duration_s else read_centred)(source, RATE_HZ, duration_s)

    def load(self, places, device):
        self.asked.append(0)
        return self.encode

    def encode(self, given: Sequence[Tensor | str]) -> Mapping[str, Tensor]:
        self.asked[-1] += len(given)
        if self.kills_after is not None and sum(self.asked) > self.kills_after:
            os.kill(os.getpid(), signal.SIGKILL)
        rows = [torch.full((4,), float(len(each))) if isinstance(each, str) else each[:4] for each in given]
        together = torch.stack(rows)
        return {stem: together * (place + 1) for place, stem in enumerate(self.stems)}


def toys(*, kind: str = SOUND, **more) -> dict[str, FeatureExtractor]:
    stems = STEMS if kind == SOUND else ("clap_laion_text",)
    toy = ToyExtractor("toy", kind, stems, ("passt",), "none", ("none", "none"), **more)
    return {toy.name: toy}


def write_sounds(folder: Path, ids: Sequence[str], seconds: float = 1.0) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    paths = {}
    for number, clip_id in enumerate(ids):
        draw = np.random.default_rng(number)
        paths[clip_id] = folder / f"{clip_id}.flac"
        soundfile.write(paths[clip_id], draw.uniform(-0.5, 0.5, round(seconds * RATE_HZ)), RATE_HZ)
    return paths


def main(folder: Path, kills_after: int) -> None:
    """Extract the sounds of a folder with the toy, in parts of two clips, by however many processes there are."""
    from mmaudio.metrics.extractors import cache_update as parts

    parts.MOST_CLIPS = 2
    table.EXTRACTORS = toys()
    ToyExtractor.kills_after = kills_after if kills_after >= 0 else None
    items = {path.stem: path for path in sorted((folder / "sounds").iterdir())}
    ranks = read_ranks()
    with process_group(ranks, torch.device("cpu")):
        failures = extract_features(
            STEMS,
            items,
            folder / "cache",
            duration_s=1.0,
            device=torch.device("cpu"),
            places={"passt": folder / "weights.pt"},
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
    print(f"rank {ranks.rank} asked for {sum(ToyExtractor.asked)}, failed {sorted(failures)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
