"""One process of an extraction of made-up rows: everything as in a real one, but that media and features are there at once.

python -m benchmarks.row_writer FOLDER NUM_ROWS; also under torchrun. Says how long it took.
"""

import sys
import time
from pathlib import Path

import torch

from mmaudio.base.specs import CLIP_WIDTH, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec
from mmaudio.distributed.collectives import UNEVEN_WORK_TIMEOUT, process_group
from mmaudio.distributed.ranks import read_ranks
from mmaudio.extraction import rows
from mmaudio.extraction.inputs import Input, Inputs
from mmaudio.extraction.job import Job
from mmaudio.extraction.pipeline import extract
from mmaudio.extraction.progress import FailureLimit
from mmaudio.extraction.reading import ReadingRules
from mmaudio.extraction.store_target import StoreTarget
from mmaudio.extraction.workspace import Manifest, Workspace
from mmaudio.features.backend import Backend
from mmaudio.features.backend_plan import Abilities, BackendPlan
from mmaudio.media.video import VideoMedia
from mmaudio.store.format import layout_of
from mmaudio.store.writer import StoreRecipe

NUM_CAPTIONS = 309  # as VGGSound has
SPEC = AudioSpec("16k")


def made_up_backend() -> Backend:
    """Features that are there when asked for."""
    generator = torch.Generator().manual_seed(0)

    def feature(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator)

    latents = feature(SPEC.num_latents, SPEC.latent_channels)
    scene, sync = feature(SPEC.num_clip_frames, CLIP_WIDTH), feature(SPEC.num_sync_tokens, SYNC_WIDTH)
    text = feature(TEXT_TOKENS, TEXT_WIDTH)
    able = Abilities(lambda _: (latents, latents.abs()), lambda _: scene, lambda _: sync, lambda captions: text.repeat(len(captions), 1, 1))
    return Backend(BackendPlan("lite", SPEC), torch.device("cpu"), able)


def made_up_inputs(num_rows: int) -> Inputs:
    items = [Input(f"{row:011d}_{row:06d}", f"caption {row % NUM_CAPTIONS}", f"{row:011d}_{row:06d}.mp4") for row in range(num_rows)]
    return Inputs("video", Path("nowhere"), items, [])


def main() -> None:
    folder, num_rows = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    ranks, inputs, layout = read_ranks(), made_up_inputs(num_rows), layout_of("compact", "video", SPEC)
    media = VideoMedia(torch.zeros(1, 1, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.uint8), torch.zeros(1))
    setattr(rows, "file_reader", lambda *_, **__: lambda numbers: [media] * len(numbers))  # noqa: B010 - the media of made-up rows
    recipe = StoreRecipe("video", SPEC, "lite", layout, {})
    work = Workspace(folder / "parts", Manifest(recipe, inputs.data_dir, num_rows, inputs.hash, None))
    job = Job(inputs, ReadingRules(True), recipe, work, 1, 1, FailureLimit())
    backend, began = made_up_backend(), time.perf_counter()
    with process_group(ranks, torch.device("cpu"), UNEVEN_WORK_TIMEOUT):
        extract(job, StoreTarget(folder, "rows"), None, backend, ranks)
    print(f"took {time.perf_counter() - began}", flush=True)


if __name__ == "__main__":
    main()
