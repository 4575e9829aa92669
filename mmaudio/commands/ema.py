"""`mmaudio ema`: averaged weights of any length, worked out after training from the snapshots of a run. Picks the action."""

import importlib
from collections.abc import Sequence

from mmaudio.base.errors import UserError, nearest
from mmaudio.commands.ema_options import ACTIONS


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<11} {what}" for name, what in ACTIONS.items())
        print(f"usage: mmaudio ema ACTION RUN [OPTIONS]\n\n{lines}\n\nexample:\n  mmaudio ema synthesize output/birds --sigma 0.08")
        return 0
    action, *words = argv
    if action not in ACTIONS:
        raise UserError(f"no action {action!r}{nearest(action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    return int(importlib.import_module(f"mmaudio.commands.ema_{action}").main(words))
