"""`mmaudio doctor`: what this machine is, and what is missing on it for the command that is planned."""

import argparse
import importlib
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.options import options_parser, parse_options
from mmaudio.doctor.environment import GPUS, Gpu, find_gpu, print_missing, print_section
from mmaudio.settings.compose import CONFIG_DIR

if TYPE_CHECKING:
    from mmaudio.distributed.ranks import Ranks

TOPICS = {
    "train": "a training run: takes train.py's own settings, and estimates memory, disk, time and bytes a second",
    "extract": "extracting features",
    "generate": "generating sound",
    "evaluate": "sampling a run's test data and scoring it",
}


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<9} {what}" for name, what in TOPICS.items())
        print(f"usage: mmaudio doctor [FOR] [OPTIONS]\n\n{lines}\n  without: the machine, and all of these in short")
        print("\nexample:\n  mmaudio doctor train example_train=True device=cpu backend=lite batch_size=2")
        return 0
    topic, words = (None, argv) if not argv or argv[0].startswith("-") else (argv[0], argv[1:])
    if topic is not None and topic not in TOPICS:
        raise UserError(f"no command {topic!r} to look into{nearest(topic, TOPICS)}; known are {', '.join(TOPICS)}")
    if not any(word in ("-h", "--help") for word in words):
        from mmaudio.doctor.environment import missing_packages

        if missing := missing_packages():  # nothing of the rest can be looked at without them
            raise UserError(*missing)
    if topic == "train":
        return _doctor_train(words)
    if topic is not None:
        return int(importlib.import_module("mmaudio.doctor.features").main(topic, words))
    problems = Problems()
    parse_options(options_parser("mmaudio doctor", "What this machine is.", "mmaudio doctor"), words, problems)
    problems.raise_any()
    return int(importlib.import_module("mmaudio.doctor.features").overview())


# ---- `mmaudio doctor train`: whether a run can be, what is missing for it, and what it is going to take; writes nothing

STAND_IN = "H100"  # what is reckoned with where the settings want a GPU and there is none


def _doctor_train(argv: Sequence[str]) -> int:
    options, words = _train_parser().parse_known_args(argv)
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


def _train_parser() -> argparse.ArgumentParser:
    example = (
        "mmaudio doctor train model=small_16k batch_size=64 'data.train=[birds]' data.birds.tsv=… data.birds.memmap_dir=… --processes 8"
    )
    what = "Everything that is missing for a training run, at once, and what the run will take. Settings as for train.py."
    parser = options_parser("mmaudio doctor train", what, example)
    parser.usage = "mmaudio doctor train [--processes N] [--gpu NAME] [key=value …]"
    parser.add_argument("--processes", type=int, default=1, help="GPUs, or processes on the CPU, of one machine (default 1)")
    parser.add_argument("--gpu", default=None, help=f"plan for GPUs that are not here: {', '.join(GPUS)}")
    return parser


def _examine(words: Sequence[str], num_processes: int, planned: Gpu | None) -> int:
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.doctor.environment import machine_lines
    from mmaudio.doctor.training import TrainPlan
    from mmaudio.runs.signature import signature
    from mmaudio.settings.compose import read_command
    from mmaudio.settings.schema import TrainSettings
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
    return print_missing(problems.sentences)


def _device_sentences(device: str, ranks: "Ranks") -> list[str]:
    """What is wrong with the device on this machine, which a plan for another one has no use for."""
    from mmaudio.distributed.devices import pick_device

    problems = Problems()
    problems.check(lambda: pick_device(device, ranks))
    return problems.sentences
