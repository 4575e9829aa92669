"""Make the training guide's two videos and two recordings, and with --learning_set also a set to learn from.

python training/make_example_data.py --learning_set training/example_learning --num_train 480
"""

import sys

from mmaudio.base.errors import run_entry_point
from mmaudio.commands.example import make_media

if __name__ == "__main__":
    run_entry_point(lambda: make_media(sys.argv[1:], prog="make_example_data.py"))
