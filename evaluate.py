"""Evaluate a run, or a published model: sample a whole set on any number of processes, then score it.

    python evaluate.py exp_id=mine device=cpu
    torchrun --standalone --nproc_per_node=2 evaluate.py model=small_16k dataset=audiocaps

Of a run, the settings are those it was trained with. Samples go to output/<exp_id>/<tag>-sampled/ (a run's own test data) or
output/<exp_id>/<dataset>/, scores beside that folder; the same command goes on where it stopped. `mmaudio evaluate` is the same.
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.evaluate import evaluate_by_settings
from mmaudio.distributed.ranks import read_ranks

if __name__ == "__main__":
    run_entry_point(lambda: evaluate_by_settings(sys.argv[1:]), speaks=lambda: read_ranks().is_first)
