"""Five steps of a tiny run, alone or under torchrun: `steps.py DATA OUT SETTINGS`. Writes what was read, drawn, lost and learned.

SETTINGS is a JSON object: other settings than `tiny_settings`, and `double` to compute in float64.
"""

import json
import sys
from itertools import chain
from pathlib import Path

import torch

from mmaudio.distributed.collectives import gather_objects, process_group
from mmaudio.distributed.ranks import read_ranks
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.tracker import read_metrics
from mmaudio.trainer.trainer import Trainer
from tests.trainer.tiny_stores import tiny_settings


class NotingSolver(FlowSolver):
    """Notes of every step which rows it had, what was drawn for them, and who was told what."""

    def open_data(self):
        super().open_data()
        self.noted = []

    def loss(self, module, batch, steps_done):
        loss = super().loss(module, batch, steps_done)
        self.noted.append((steps_done, batch.positions.tolist(), batch.ids, loss.loss_b.tolist()))
        return loss


class DoubleSolver(NotingSolver):
    """In float64, where the order of sums shows in the last digits alone."""

    def build_network(self):
        return super().build_network().double()

    def restore_network(self, weights):
        network = self.build_network()
        network.load_state_dict(weights)
        return network


def main(data: str, out: str, changes: str) -> None:
    given = json.loads(changes)
    kind = DoubleSolver if given.pop("double", False) else NotingSolver
    ranks, device = read_ranks(), torch.device("cpu")
    torch.set_num_threads(1)
    settings = tiny_settings(
        Path(data), "five", val=("held",), **{"batch_size": 8, "num_iterations": 5, "val_interval": 5, "log_text_interval": 1, **given}
    )
    with process_group(ranks, device):
        trainer = Trainer(kind(settings, ranks, device), Path(out).with_suffix(""))
        trainer.train()
        weights = {name: tensor.clone() for name, tensor in trainer.whole_network().state_dict().items()}
        noted = gather_objects(trainer.solver.noted)
    if ranks.is_first:
        lines = read_metrics(Path(out).with_suffix(""))
        torch.save({"weights": weights, "noted": list(chain.from_iterable(noted)), "metrics": lines}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
