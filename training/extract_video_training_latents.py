"""Videos with sound to a store of training features. `mmaudio extract video` is the same.

torchrun --standalone training/extract_video_training_latents.py --device cpu --backend lite
torchrun --standalone training/extract_video_training_latents.py --data_dir my/videos --tsv my/train.tsv --name my-train
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.extract import extract_video
from mmaudio.distributed.ranks import read_ranks

if __name__ == "__main__":
    prog = "extract_video_training_latents.py"
    run_entry_point(lambda: extract_video(sys.argv[1:], prog), speaks=lambda: read_ranks().is_first)
