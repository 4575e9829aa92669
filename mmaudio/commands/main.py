"""The `mmaudio` command: picks the subcommand. Imports nothing heavy, so that help comes at once."""

import importlib
import sys

from mmaudio import __version__
from mmaudio.base.errors import UserError, nearest, run_entry_point
from mmaudio.distributed.ranks import read_ranks

SUBCOMMANDS = {
    "partition": "cut long recordings into training clips: a table of where each starts and ends",
    "extract": "turn clips of recordings (audio) or videos (video) into a store of training features",
    "train": "train a network on stores of features, with settings as KEY=VALUE",
    "generate": "give a video, or many, the sound a prompt describes",
    "evaluate": "score a folder of generated sounds against the real ones",
    "report": "make the page of a run: curves, scores, videos to listen to",
    "weights": "list, fetch and verify the published weight files; export those of a run",
    "store": "say what a store of features holds, verify it, convert its layout",
    "ema": "averaged weights of any length, from the snapshots of a run",
    "doctor": "what this machine is, and what is missing on it for the command you plan",
    "verify-resume": "whether a run that is killed and resumed ends as one that is not, by training itself",
    "example": "the whole way on made-up data: media, features, training, sound, scores, page",
}


def main() -> None:
    """Entry point of the installed command."""
    run_entry_point(_run, speaks=lambda: read_ranks().is_first)


def _run() -> int:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<13} {what}" for name, what in SUBCOMMANDS.items()]
        print("usage: mmaudio COMMAND [OPTIONS]\n\n" + "\n".join(lines) + "\n\nexample:\n  mmaudio generate --help")
        return 0
    if words[0] == "--version":
        print(f"mmaudio {__version__}")
        return 0
    name, *rest = words
    if name not in SUBCOMMANDS:
        raise UserError(f"no command {name!r}{nearest(name, SUBCOMMANDS)}; known are {', '.join(SUBCOMMANDS)}")
    return int(importlib.import_module(f"mmaudio.commands.{name.replace('-', '_')}").main(rest))


if __name__ == "__main__":
    main()
