"""The guide's example stores, made by the guide's own scripts where they are missing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.ranks import calm_environment
from mmaudio.commands.entry_points import TRAINING_SCRIPTS

STORES = Path("training/example_output/memmap")
LITE = ("--device", "cpu", "--backend", "lite")
SCRIPTS = {  # store, or the table that comes before it → the command that makes it
    STORES.parent / "clips.tsv": ("partition_clips.py",),
    STORES / "audio-example.tsv": ("extract_audio_training_latents.py", *LITE),
    STORES / "vgg-example.tsv": ("extract_video_training_latents.py", *LITE),
}


def make_example_stores(tell: Callable[[str], None]) -> None:
    """Make what is missing below the working folder. Raises: UserError where a script fails."""
    if all(path.is_file() for path in list(SCRIPTS)[1:]):
        return
    for path, (script, *words) in SCRIPTS.items():
        if path.is_file():
            continue
        command = " ".join((f"training/{script}", *words))
        tell(f"making {path}: python {command}")
        ended = subprocess.run(
            [sys.executable, str(TRAINING_SCRIPTS / script), *words], env=calm_environment(), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise UserError(
                f"the example's data could not be made: python {command} ended with exit code {ended.returncode}: {ended.stderr[-500:]}"
            )
