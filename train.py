"""Train a flow network on extracted stores: settings, build, run, close.

    torchrun --standalone --nproc_per_node=1 train.py exp_id=debug compile=False debug=True example_train=True batch_size=1
    python train.py exp_id=birds data.birds.tsv=birds.tsv data.birds.memmap_dir=birds 'data.train=[birds]' batch_size=16

Settings are those of config/, results go to output/<exp_id>/; the same command goes on where a run stopped.
"""

import logging
import sys
from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mmaudio.base.errors import Problems, run_entry_point
from mmaudio.base.logs import start_logging
from mmaudio.commands.train import leaving_for_requeue, train_and_evaluate
from mmaudio.distributed.collectives import collective_timeout, process_group
from mmaudio.distributed.devices import pick_device, set_threads
from mmaudio.distributed.ranks import read_ranks, unhandled_signals, watch_launcher
from mmaudio.distributed.watchdog import watch_ranks
from mmaudio.evaluation.training_stages import check_stages
from mmaudio.runs.folder import LOG_FILE, lock_run, unmark_requeue
from mmaudio.runs.signature import claim_folder, record_signature, signature, write_config
from mmaudio.settings.compose import plain_values, read_command, settings_from
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.checks import check_run_folder
from mmaudio.trainer.solver import solver_class

log = logging.getLogger(__name__)
CONFIG_DIR = Path(__file__).resolve().parent / "config"


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train_config")
def run(config: DictConfig) -> None:
    """One training run; the working directory stays the user's."""
    run_entry_point(lambda: train_as(config), speaks=lambda: read_ranks().is_first)


def train_as(config: DictConfig) -> int:
    """Train as configured; returns the exit code."""
    ranks, problems = read_ranks(), Problems()
    settings = settings_from(TrainSettings, plain_values(config), problems)
    problems.raise_any()
    run_dir, device = Path(HydraConfig.get().runtime.output_dir), pick_device(settings.device, ranks)
    if ranks.is_first:
        claim_folder(run_dir, settings)
    start_logging(ranks.rank, run_dir / LOG_FILE)
    set_threads(ranks)
    kind, limit_s = solver_class(settings.solver.target), settings.hang_timeout_s
    trains = not settings.only_stage()
    writes = ranks.is_first and trains
    if trains and (warning := unhandled_signals()):
        log.warning("%s", warning)
    with (
        process_group(ranks, device, collective_timeout(limit_s)) as store,
        watch_ranks(ranks, store, limit_s) as pulse,
        leaving_for_requeue(run_dir) if trains else nullcontext(),
        lock_run(run_dir, holds=writes),
    ):
        if writes:
            unmark_requeue(run_dir)
            record_signature(run_dir, settings)
            write_config(run_dir, settings.name(), OmegaConf.to_yaml(config, resolve=True))
        return train_and_evaluate(kind, settings, run_dir, ranks, device, pulse.beat)


def main() -> int:
    """Check the whole command line, then let Hydra read it."""
    ranks, problems = read_ranks(), Problems()
    watch_launcher(ranks)
    command = read_command(sys.argv[1:], TrainSettings, CONFIG_DIR, "train_config", signature, problems, is_first=ranks.is_first)
    solver = problems.check(lambda: solver_class(command.settings.solver.target))
    if solver is not None and not command.only_shows:
        solver.check(command.settings, command.run_dir, ranks, problems)
        if ranks.is_first:
            problems.check(lambda: check_run_folder(command.settings, command.run_dir))
        check_stages(solver, command.settings, problems)
    problems.raise_any()
    for note in command.notes if ranks.is_first else ():
        print(f"note: {note}", flush=True)
    sys.argv[1:] = command.argv
    run()
    return 0


if __name__ == "__main__":
    run_entry_point(main, speaks=lambda: read_ranks().is_first)
