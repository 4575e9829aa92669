"""A script for two processes: the second cannot sound its rows, and both are told."""

import datetime
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from mmaudio.base.errors import UserError
from mmaudio.batches.sources import open_mixture
from mmaudio.distributed.collectives import process_group
from mmaudio.distributed.ranks import read_ranks
from mmaudio.evaluation.sampling import sound_latents
from mmaudio.trainer.model_settings import model_spec
from tests.trainer.tiny_stores import tiny_settings

CPU = torch.device("cpu")


def main(folder: Path) -> None:
    ranks, settings = read_ranks(), tiny_settings(folder, "x", val=("held",))
    spec = model_spec(settings)

    def decode(latent_bnc: torch.Tensor) -> torch.Tensor:
        if ranks.rank == 1:
            raise UserError("the second rank cannot")
        return torch.zeros(len(latent_bnc), spec.num_samples)

    with process_group(ranks, CPU, datetime.timedelta(seconds=60)):
        try:
            backend, rows = SimpleNamespace(device=CPU, spec=spec, decode=decode), open_mixture(settings, ["held"], spec)
            sound_latents(backend, rows, folder, 2, ranks, None, of="x/val")
        except UserError as error:
            print(f"rank {ranks.rank}: {error}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
