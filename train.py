"""Train a flow network on extracted stores; settings are those of config/, results go to output/<exp_id>/. `mmaudio train` is the same.

torchrun --standalone --nproc_per_node=1 train.py exp_id=debug compile=False debug=True example_train=True batch_size=1
python train.py exp_id=birds data.birds.tsv=birds.tsv data.birds.memmap_dir=birds 'data.train=[birds]' batch_size=16
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.train import main
from mmaudio.distributed.ranks import read_ranks

if __name__ == "__main__":
    run_entry_point(lambda: main(sys.argv[1:]), speaks=lambda: read_ranks().is_first)
