"""The options of the two extraction scripts."""

import argparse

from mmaudio.base.ranks import num_cores
from mmaudio.base.specs import DEFAULT_DURATION_S, MODES
from mmaudio.commands.backend_options import add_backend_options
from mmaudio.commands.column_dtypes import COLUMN_DTYPE
from mmaudio.features.plan import BACKENDS
from mmaudio.store.schema import CHOSEN_DTYPES, LAYOUTS


def add_common_options(parser: argparse.ArgumentParser, *, batch_size: int, num_workers: int) -> None:
    """Options both scripts have; the defaults are the published numbers, workers at most one less than the cores."""
    parser.add_argument("--mode", choices=list(MODES), default="16k", help="sampling rate of the latents (default 16k)")
    parser.add_argument("--backend", choices=BACKENDS, default="pretrained", help="encoders (default pretrained; lite needs no weights)")
    parser.add_argument("--device", default="cuda", help="cuda, cpu or auto (default cuda)")
    add_backend_options(parser)
    parser.add_argument("--layout", choices=LAYOUTS, default="compact", help="layout of the store (default compact)")
    parser.add_argument(
        "--column_dtype",
        metavar=COLUMN_DTYPE,
        action="append",
        default=[],
        help=f"dtype of a column of the compact layout, such as sync_features=fp32 ({', '.join(CHOSEN_DTYPES)}; default bf16); repeatable",
    )
    parser.add_argument("--duration", type=float, default=DEFAULT_DURATION_S, help="seconds of a training clip (default 8.0)")
    parser.add_argument("--batch_size", type=int, default=batch_size, help=f"clips encoded at once on a GPU (default {batch_size})")
    workers = max(1, min(num_workers, num_cores() - 1))
    parser.add_argument("--num_workers", type=int, default=workers, help=f"threads that read files (default {workers} here)")
    parser.add_argument("--append", action="store_true", help="add the rows whose ids it lacks to the store that stands there")
    parser.add_argument("--replace", action="store_true", help="move a store that stands there, and would be lost, aside")
    shares = "give up when more inputs fail: a number, or a share as 0.05 (1.0: all)"
    parser.add_argument("--max_failures", metavar="N", default=None, help=shares)
    parser.add_argument("--retry_failed", action="store_true", help="going on, try again what failed when this extraction was stopped")
