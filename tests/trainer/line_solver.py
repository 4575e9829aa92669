"""A task in ten lines: the slope of a line, from numbers that are functions of the step."""

from itertools import count

import torch
from torch import nn

from mmaudio.base.rng import CounterRng
from mmaudio.trainer.solver import Loss, Solver


class LineSolver(Solver):
    best_metric = "valid/loss"

    def build_network(self):
        return nn.Linear(1, 1)

    def build_batches(self, stage, steps_done):
        places = torch.arange(self.rows_per_rank) + self.ranks.rank * self.rows_per_rank
        steps = count(steps_done) if stage == "train" else range(3)
        return (CounterRng(self.settings.seed, step, places).normals(stage, 1) for step in steps)

    def loss(self, module, batch, steps_done):
        return Loss((module(batch) - self.settings.solver.options["slope"] * batch).square().mean(1))
