"""What the two extraction scripts share: the way from checked options to a store."""

import argparse
import logging
from functools import partial
from pathlib import Path

import torch

from mmaudio.base.errors import EXIT_REJECTS, Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import spec_of
from mmaudio.base.places import check_writable
from mmaudio.base.ranks import UNEVEN_WORK_TIMEOUT, pick_device, process_group, read_ranks, wait_for_all, watch_launcher
from mmaudio.commands.backend_options import backend_keywords
from mmaudio.commands.column_dtypes import read_column_dtypes
from mmaudio.commands.extraction_plan import Stage, plan_extraction
from mmaudio.features.backend import Backend
from mmaudio.features.extract import Outcome, extract
from mmaudio.features.failure_limit import FailureLimit
from mmaudio.features.job import Job
from mmaudio.features.plan import BackendPlan
from mmaudio.features.target import Target

log = logging.getLogger(__name__)


def run_extraction(options: argparse.Namespace, problems: Problems, stage: Stage) -> int:
    """Check everything, extract, and report. Returns the exit code: 0, or 3 where inputs were left out.

    Raises: UserError with every mistake found before any work.
    """
    ranks = read_ranks()
    watch_launcher(ranks)
    start_logging(ranks.rank)
    for name in ("batch_size", "num_workers"):
        if getattr(options, name) < 1:
            problems.add(f"--{name} is {getattr(options, name)}; want at least 1")
    for name in ("latent_dir", "output_dir", "data_dir"):
        if not getattr(options, name):
            problems.add(f"--{name} is empty; want a folder")
    if options.append and options.replace:
        problems.add("--append adds to the store that stands there and --replace gives it up; leave one of them out")
    problems.check(lambda: check_writable(Path(options.latent_dir)))
    device = problems.check(lambda: pick_device(options.device, ranks))
    wanted = problems.check(lambda: BackendPlan(options.backend, spec_of(options.mode, options.duration), **backend_keywords(options)))
    dtypes = problems.check(lambda: read_column_dtypes("--column_dtype", options.column_dtype, options.layout))
    limit = problems.check(lambda: FailureLimit.parse(options.max_failures))
    inputs = problems.check(stage.find)
    problems.check(lambda: stage.target.check(stage.tables))
    plan = None
    if wanted is not None and device is not None and inputs is not None and dtypes is not None:
        plan = problems.check(partial(plan_extraction, options, stage, wanted, device, inputs, dtypes))
    problems.raise_any()
    assert plan and device and limit
    if not plan.inputs.items:
        log.info("%s: nothing to add, all ids of the table are in it", stage.target.folder)
        if ranks.is_first:
            plan.workspace(weights=None).clear_if_done()
        return 0
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = Backend.load(plan.backend, device, stage.needs)  # may download weights, so everything else is known to be right before
    work = plan.workspace(backend.weights)
    job = Job(plan.inputs, plan.rules, work.manifest.recipe, work, options.batch_size, options.num_workers, limit)
    # Files are read by threads and each clip is encoded on its own: one arithmetic thread a process keeps rows equal
    # whatever the number of processes, and the pools from fighting over the cores.
    torch.set_num_threads(1)
    with process_group(ranks, torch.device("cpu"), UNEVEN_WORK_TIMEOUT):
        code = _report(extract(job, stage.target, plan.base, backend, ranks, retry_failed=options.retry_failed), stage.target)
        # All leave together and with one code: a launcher ends the rest of its processes when one fails, and one that saw
        # no failure waits for minutes for the launchers of other machines that did.
        wait_for_all()
    return code


def _report(outcome: Outcome, target: Target) -> int:
    left_out = f", {len(outcome.rejects)} left out (reasons in {target.failed_tsv})" if outcome.rejects else ""
    log.info("%s: %d of %d inputs kept%s", target.folder, outcome.num_kept, outcome.num_seen, left_out)
    return EXIT_REJECTS if outcome.rejects else 0
