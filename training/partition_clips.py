"""Cut long recordings into training clips: a table of where each starts and ends. `mmaudio partition` is the same.

python training/partition_clips.py
python training/partition_clips.py --data_dir my/recordings --output_dir my/clips.tsv --max_clips -1 --tail pad
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.partition import main

if __name__ == "__main__":
    run_entry_point(lambda: main(sys.argv[1:], prog="partition_clips.py"))
