"""Evaluate a run on its test stores: sample every row, on any number of processes, then score against the real sounds.

    python evaluate.py exp_id=mine reference=my/videos device=cpu
    torchrun --standalone --nproc_per_node=2 evaluate.py exp_id=mine

Settings are those the run was trained with; samples go to output/<exp_id>/test-sampled/, scores beside that folder.
"""

import logging
import sys
from pathlib import Path

from mmaudio.base.errors import Problems, run_entry_point
from mmaudio.base.files import write_json
from mmaudio.base.logs import start_logging
from mmaudio.base.ranks import pick_device, process_group, read_ranks, set_threads, watch_launcher
from mmaudio.commands.evaluate import reference_files
from mmaudio.commands.evaluation import DEFAULTS, backend_keywords, read_words, sample_rows
from mmaudio.commands.saved_settings import read_settings
from mmaudio.features.plan import FOR_DECODING
from mmaudio.generate.model import ModelChoice, load_model
from mmaudio.metrics.scoring import score_folder
from mmaudio.trainer.sources import open_mixture

log = logging.getLogger(__name__)


def main() -> int:
    if sys.argv[1:2] in (["--help"], ["-h"]):
        print(f"{__doc__}\nkeys and defaults: {' '.join(f'{key}={value}' for key, value in DEFAULTS.items())}")
        return 0
    problems, ranks = Problems(), read_ranks()
    watch_launcher(ranks)
    asked = read_words(sys.argv[1:], problems)
    problems.raise_any()
    run_dir = Path("output") / asked["exp_id"]
    settings = read_settings(run_dir, problems)
    weights = Path(asked["weights"] or run_dir / f"{asked['exp_id']}_ema_final.pth")
    device = problems.check(lambda: pick_device(asked["device"], ranks))
    model = (
        problems.check(lambda: load_model(ModelChoice(weights, backend_keywords=backend_keywords(settings)), device, FOR_DECODING))
        if device is not None
        else None
    )
    if not settings.data.test:
        problems.add(f"the run {run_dir} names no test data; train it with 'data.test=[NAME]'")
    rows = problems.check(lambda: open_mixture(settings, settings.data.test, model.backend.spec)) if model and settings.data.test else None
    reference = problems.check(lambda: reference_files(Path(asked["reference"]), None)) if asked["reference"] else None
    problems.raise_any()
    assert model is not None
    assert device is not None
    assert rows is not None
    start_logging(ranks.rank)
    set_threads(ranks)
    name = f"test-{asked['output_name']}" if asked["output_name"] else "test"
    with process_group(ranks, device):
        sample_rows(model, rows, settings, run_dir / f"{name}-sampled", int(asked["batch_size"]), ranks)
    log.info("%d samples in %s", len(rows), run_dir / f"{name}-sampled")
    if reference is not None and ranks.is_first:
        scores = score_folder(run_dir / f"{name}-sampled", reference, duration_s=model.backend.spec.duration_s)
        write_json(run_dir / f"{name}-output_metrics.json", scores)
        log.info("onset F1 %.3f; all scores in %s", scores["onset_f1"]["generated"], run_dir / f"{name}-output_metrics.json")
    return 0


if __name__ == "__main__":
    run_entry_point(main, speaks=lambda: read_ranks().is_first)
