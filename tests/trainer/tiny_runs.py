"""A run of flow training from its first iteration, or from wherever it stands, to its end."""

from pathlib import Path

import torch

from mmaudio.base.ranks import Ranks
from mmaudio.base.settings import TrainSettings
from mmaudio.trainer import engine
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.solver import StageFunction
from mmaudio.trainer.stopping import Asked


def train(settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, **added: StageFunction) -> bool:
    """Train with these stages besides. False if the run was asked to stop before its end."""
    return engine.train(FlowSolver(settings, run_dir, ranks, device, added=added)) is Asked.NOTHING
