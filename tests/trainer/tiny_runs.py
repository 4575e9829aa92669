"""A run of flow training from its first iteration, or from wherever it stands, to its end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmaudio.distributed.ranks import Ranks
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.signals import StopReason
from mmaudio.trainer.stages import PlainStage
from mmaudio.trainer.trainer import Trainer


def train(settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, **added: Callable[[Any, int], Values]) -> bool:
    """Train with these functions as stages besides. False if the run was asked to stop before its end."""
    stages = [PlainStage(name, function) for name, function in added.items()]
    return Trainer(FlowSolver(settings, ranks, device), run_dir, stages).train() is StopReason.NOTHING
