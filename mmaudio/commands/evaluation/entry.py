"""evaluate.py and `mmaudio evaluate key=value`: the command line understood, checked, and done."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError, nearest, run_entry_point
from mmaudio.commands.entry_points import CONFIG_DIR

if TYPE_CHECKING:
    import torch

    from mmaudio.base.ranks import Ranks
    from mmaudio.base.settings import BaseSettings, Command, EvalSettings
    from mmaudio.commands.evaluation.whole import Plan

LOG_FILE = "evaluate.log"


def main(argv: Sequence[str]) -> int:
    """Evaluate as the words say; returns the exit code. Raises: UserError with every mistake in them."""
    from mmaudio.base.ranks import read_ranks, watch_launcher
    from mmaudio.base.settings import EvalSettings, read_command

    ranks, problems = read_ranks(), Problems()
    watch_launcher(ranks)
    command = read_command(argv, EvalSettings, CONFIG_DIR, "eval_config", _needs_a_name, problems, is_first=ranks.is_first)
    if command.only_shows:
        problems.raise_any()
        return _hand_to_hydra(command.argv, lambda: 0)
    settings = _settings(command, problems)
    _check_run(command, problems)
    from mmaudio.base.ranks import pick_device
    from mmaudio.commands.evaluation.whole import plan_evaluation

    device = problems.check(lambda: pick_device(settings.device, ranks))
    plan = plan_evaluation(settings, command.run_dir, problems)
    problems.raise_any()
    assert plan is not None
    assert device is not None
    for note in command.notes if ranks.is_first else ():
        print(f"note: {note}", flush=True)
    return _hand_to_hydra(command.argv, lambda: _evaluate(plan, ranks, device))


def _needs_a_name(_: "BaseSettings") -> str:
    raise UserError("exp_id is null; give exp_id=NAME, a run in output/, or leave it out for a published model")


def _settings(command: "Command", problems: Problems) -> "EvalSettings":
    from mmaudio.commands.evaluation.subject import is_run, settings_of_run

    if not is_run(command.run_dir):
        asked: EvalSettings = command.settings
        return asked
    return settings_of_run(command.run_dir, command.plain, command.given, problems)


def _check_run(command: "Command", problems: Problems) -> None:
    """Add a sentence where exp_id names no run and nothing says that it is a published model's: most likely it is misspelt."""
    from mmaudio.commands.evaluation.subject import is_run

    says_which = {"model", "weights"} & set(command.given)
    if "exp_id" in command.given and not says_which and not is_run(command.run_dir):
        there = sorted(path.name for path in command.run_dir.parent.glob("*") if is_run(path))
        hint = nearest(command.run_dir.name, there)
        problems.add(f"no run at {command.run_dir}{hint}; for a published model say which: model=NAME, or give weights=FILE")


def _evaluate(plan: "Plan", ranks: "Ranks", device: "torch.device") -> int:
    from mmaudio.base.logs import start_logging
    from mmaudio.base.ranks import UNEVEN_WORK_TIMEOUT, process_group, set_threads
    from mmaudio.commands.evaluation.whole import evaluate
    from mmaudio.trainer.precision import set_backend_flags

    start_logging(ranks.rank, plan.run_dir / LOG_FILE)
    set_threads(ranks)
    set_backend_flags(plan.settings)
    with process_group(ranks, device, UNEVEN_WORK_TIMEOUT):
        return evaluate(plan, ranks, device)


def _hand_to_hydra(argv: Sequence[str], task: Callable[[], int]) -> int:
    """Let Hydra keep its record of the configuration in the run's folder, and do the task; or show what it was asked to show."""
    import hydra
    from omegaconf import DictConfig

    from mmaudio.base.ranks import read_ranks

    def run(_: DictConfig) -> None:
        run_entry_point(task, speaks=lambda: read_ranks().is_first)

    sys.argv[1:] = argv
    hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="eval_config")(run)()
    return 0
