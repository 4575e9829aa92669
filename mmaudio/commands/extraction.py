"""What the two extraction scripts share: their options, and the way from checked options to a store."""

import argparse
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from mmaudio.base.errors import EXIT_REJECTS, Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import spec_of
from mmaudio.base.ranks import num_cores, pick_device, process_group, read_ranks
from mmaudio.base.specs import DEFAULT_DURATION_S, MODES
from mmaudio.commands.backend_options import add_backend_options, backend_keywords
from mmaudio.features.backend import Backend
from mmaudio.features.extract import Target, extract_parts, merge_parts, plan_parts
from mmaudio.features.inputs import Inputs
from mmaudio.features.plan import BACKENDS, BackendPlan
from mmaudio.store.schema import LAYOUTS

log = logging.getLogger(__name__)


def add_common_options(parser: argparse.ArgumentParser, *, batch_size: int, num_workers: int) -> None:
    """Options both scripts have; the defaults are the published numbers, workers at most one less than the cores."""
    parser.add_argument("--mode", choices=list(MODES), default="16k", help="sampling rate of the latents (default 16k)")
    parser.add_argument("--backend", choices=BACKENDS, default="pretrained", help="encoders (default pretrained; lite needs no weights)")
    parser.add_argument("--device", default="cuda", help="cuda, cpu or auto (default cuda)")
    add_backend_options(parser)
    parser.add_argument("--layout", choices=LAYOUTS, default="compact", help="layout of the store (default compact)")
    parser.add_argument("--duration", type=float, default=DEFAULT_DURATION_S, help="seconds of a training clip (default 8.0)")
    parser.add_argument("--batch_size", type=int, default=batch_size, help=f"clips per finished part (default {batch_size})")
    workers = max(1, min(num_workers, num_cores() - 1))
    parser.add_argument("--num_workers", type=int, default=workers, help=f"threads that read files (default {workers} here)")


def run_extraction(
    options: argparse.Namespace,
    problems: Problems,
    find: Callable[[], Inputs],
    target: Target,
    *,
    needs: Sequence[str],
    tables: Sequence[Path],
    normalised: bool,
) -> int:
    """Check everything, extract, merge, and report. Returns the exit code: 0, or 3 where inputs were left out.

    Args:
        find: what there is to extract, from `tables`.
        needs: what the backend has to do.

    Raises: UserError with every mistake found before any work.
    """
    ranks = read_ranks()
    start_logging(ranks.rank)
    for name in ("batch_size", "num_workers"):
        if getattr(options, name) < 1:
            problems.add(f"--{name} is {getattr(options, name)}; want at least 1")
    device = problems.check(lambda: pick_device(options.device, ranks))
    plan = problems.check(lambda: BackendPlan(options.backend, spec_of(options.mode, options.duration), **backend_keywords(options)))
    inputs = problems.check(find)
    problems.check(lambda: target.check(tables))
    if plan is None or inputs is None or device is None:
        problems.raise_any()
    assert plan is not None
    assert inputs is not None
    assert device is not None
    planned = partial(plan_parts, Path(options.latent_dir), inputs, plan, block_rows=options.batch_size, normalised=normalised)
    problems.check(lambda: planned(weights=None))
    problems.raise_any()
    backend = Backend.load(plan, device, needs)  # may download weights, so everything else is known to be right before
    parts = planned(weights=backend.weights)
    # Files are read by threads and each clip is encoded on its own: one arithmetic thread a process keeps rows equal
    # whatever the number of processes, and the pools from fighting over the cores.
    torch.set_num_threads(1)
    with process_group(ranks, backend.device):
        extract_parts(parts, inputs, backend, ranks, options.num_workers)
    if not ranks.is_first:
        return 0
    outcome = merge_parts(parts, inputs, backend, target)  # as long as it takes: no other process waits for it
    left_out = f", {len(outcome.rejects)} left out (reasons in {target.failed_tsv})" if outcome.rejects else ""
    log.info("%s: %d of %d inputs kept%s", target.folder, outcome.num_kept, outcome.num_seen, left_out)
    return EXIT_REJECTS if outcome.rejects else 0
