"""Clips of recordings to a store of training features. `mmaudio extract audio` is the same.

torchrun --standalone training/extract_audio_training_latents.py --device cpu --backend lite
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.extract import extract_audio
from mmaudio.distributed.ranks import read_ranks

if __name__ == "__main__":
    prog = "extract_audio_training_latents.py"
    run_entry_point(lambda: extract_audio(sys.argv[1:], prog), speaks=lambda: read_ranks().is_first)
