"""Print every benchmark's table.

make bench
"""

import datetime
import platform

import torch

from benchmarks import reading, training
from mmaudio.base.ranks import num_cores, read_ranks, set_threads


def main() -> None:
    threads = set_threads(read_ranks())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {num_cores()} cores, {threads} threads"
    )
    print(f"{datetime.date.today()}, {machine}, torch {torch.__version__}\n")
    training.print_table(device)
    reading.print_table()


if __name__ == "__main__":
    main()
