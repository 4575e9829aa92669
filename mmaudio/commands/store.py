"""`mmaudio store`: what a store of features holds, whether it is right, and its other layout. Picks the action."""

import importlib
from collections.abc import Sequence

from mmaudio.base.errors import UserError, nearest
from mmaudio.commands.store_options import ACTIONS


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<8} {what}" for name, what in ACTIONS.items())
        example = "mmaudio store verify training/example_output/memmap/vgg-example"
        print(f"usage: mmaudio store ACTION STORE [OPTIONS]\n\n{lines}\n\nexample:\n  {example}")
        return 0
    action, *words = argv
    if action not in ACTIONS:
        raise UserError(f"no action {action!r}{nearest(action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    return int(importlib.import_module(f"mmaudio.commands.store_{action}").main(words))
