"""A run of flow training from its first iteration, or from wherever it stands, to its end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.ranks import Ranks
from mmaudio.base.settings import TrainSettings
from mmaudio.trainer import engine
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.stage import PlainStage
from mmaudio.trainer.stopping import Asked


def train(settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, **added: Callable[[Any, int], Values]) -> bool:
    """Train with these functions as stages besides. False if the run was asked to stop before its end."""
    stages = [PlainStage(name, function) for name, function in added.items()]
    return engine.train(FlowSolver(settings, run_dir, ranks, device, added=stages)) is Asked.NOTHING
