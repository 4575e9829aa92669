"""Sample and score a whole set of a run, or of a published model, on any number of processes. `mmaudio evaluate` is the same.

python evaluate.py exp_id=mine device=cpu
torchrun --standalone --nproc_per_node=2 evaluate.py model=small_16k dataset=audiocaps
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.evaluate import evaluate_by_settings
from mmaudio.distributed.ranks import read_ranks

if __name__ == "__main__":
    run_entry_point(lambda: evaluate_by_settings(sys.argv[1:]), speaks=lambda: read_ranks().is_first)
