"""`mmaudio doctor train`: whether a run can be, what is missing for it, and what it is going to take; writes nothing."""

import argparse
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.base.options import options_parser
from mmaudio.commands.doctor.gpus import GPUS, Gpu, find_gpu
from mmaudio.commands.doctor.sheet import conclude, print_section
from mmaudio.commands.entry_points import CONFIG_DIR

if TYPE_CHECKING:
    from mmaudio.base.ranks import Ranks

STAND_IN = "H100"  # what is reckoned with where the settings want a GPU and there is none


def _parser() -> argparse.ArgumentParser:
    example = (
        "mmaudio doctor train model=small_16k batch_size=64 'data.train=[birds]' data.birds.tsv=… data.birds.memmap_dir=… --processes 8"
    )
    what = "Everything that is missing for a training run, at once, and what the run will take. Settings as for train.py."
    parser = options_parser("mmaudio doctor train", what, example)
    parser.usage = "mmaudio doctor train [--processes N] [--gpu NAME] [key=value …]"
    parser.add_argument("--processes", type=int, default=1, help="GPUs, or processes on the CPU, of one machine (default 1)")
    parser.add_argument("--gpu", default=None, help=f"plan for GPUs that are not here: {', '.join(GPUS)}")
    return parser


def main(argv: Sequence[str]) -> int:
    options, words = _parser().parse_known_args(argv)
    problems = Problems()
    gpu = problems.check(lambda: find_gpu(options.gpu)) if options.gpu else None
    if options.processes < 1:
        problems.add(f"--processes is {options.processes}; want at least 1")
    if not any(word.startswith(("--config-path", "-cp")) for word in words) and not CONFIG_DIR.is_dir():
        problems.add(
            f"no config folder at {CONFIG_DIR}: run from the repository, installed by `pip install -e .`, or give --config-path=DIR"
        )
    problems.raise_any()
    return _examine(words, options.processes, gpu)


def _examine(words: Sequence[str], num_processes: int, planned: Gpu | None) -> int:
    from mmaudio.base.ranks import Ranks
    from mmaudio.base.settings import TrainSettings, read_command
    from mmaudio.commands.doctor.machine import machine_lines
    from mmaudio.commands.doctor.plan import TrainPlan
    from mmaudio.runs.signature import signature
    from mmaudio.trainer.solver import solver_class

    problems = Problems()
    command = read_command(words, TrainSettings, CONFIG_DIR, "train_config", signature, problems)
    settings, ranks = command.settings, Ranks(world_size=num_processes, local_world_size=num_processes)
    task = problems.check(lambda: solver_class(settings.solver.target))
    if task is not None:
        task.check(settings, command.run_dir, ranks, problems)
    if planned is not None:
        problems.sentences = [sentence for sentence in problems.sentences if sentence not in _device_sentences(settings.device, ranks)]
    print_section("this machine", machine_lines(command.run_dir))
    if command.notes:
        print_section("notes", (("note:", note) for note in command.notes))
    plan = problems.check(lambda: TrainPlan.of(settings, num_processes, planned, STAND_IN))
    if plan is not None:
        print_section(f"the run {command.run_dir}, estimated for {plan.device_words}", plan.lines())
        for sentence in plan.shortages(command.run_dir):
            problems.add(sentence)
        if plan.compiles and planned is None and not any(map(shutil.which, ("cc", "gcc", "clang"))):
            problems.add("compiling needs a C compiler (cc, gcc or clang) and there is none; install one, or give compile=False")
    return conclude(problems.sentences)


def _device_sentences(device: str, ranks: "Ranks") -> list[str]:
    """What is wrong with the device on this machine, which a plan for another one has no use for."""
    from mmaudio.base.ranks import pick_device

    problems = Problems()
    problems.check(lambda: pick_device(device, ranks))
    return problems.sentences
