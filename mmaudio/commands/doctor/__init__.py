"""`mmaudio doctor`: what this machine is, and what is missing on it for the command that is planned."""

import importlib
from collections.abc import Sequence

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.options import options_parser, parse_options

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
        from mmaudio.commands.doctor.packages import missing_packages

        if missing := missing_packages():  # nothing of the rest can be looked at without them
            raise UserError(*missing)
    if topic == "train":
        return int(importlib.import_module("mmaudio.commands.doctor.train").main(words))
    if topic is not None:
        return int(importlib.import_module("mmaudio.commands.doctor.features").main(topic, words))
    problems = Problems()
    parse_options(options_parser("mmaudio doctor", "What this machine is.", "mmaudio doctor"), words, problems)
    problems.raise_any()
    return int(importlib.import_module("mmaudio.commands.doctor.features").overview())
