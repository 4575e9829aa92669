"""One training step on made-up features, as training takes it: the one place that knows how the trainer builds a step."""

import torch
from torch import Tensor

from mmaudio.base.rng import CounterRng
from mmaudio.flow.guidance import ConditionDropout, DropoutDraws, choose_present
from mmaudio.flow.loss import FlowBatch, FlowSettings, draw_flow
from mmaudio.network import CONDITION_ROWS, FlowTransformer, build_network, find_variant
from mmaudio.trainer.flow_solver import FlowObjective
from mmaudio.trainer.optimizer import OptimizerStep, build_optimizer

CLIP_GRAD_NORM, LEARNING_RATE, WEIGHT_DECAY = 1.0, 1e-4, 1e-6
COMPILING = ("eager", "blocks compiled", "compiled")


def new_network(variant: str, duration_s: float, device: torch.device) -> FlowTransformer:
    """A network built on the device, whose latents are taken as they are."""
    channels = find_variant(variant).audio(duration_s).latent_channels
    with device:
        return build_network(variant, duration_s=duration_s, latent_mean=torch.zeros(channels), latent_std=torch.ones(channels))


def new_batch(network: FlowTransformer, num_rows: int, device: torch.device, num_without_video: int = 0) -> FlowBatch:
    """Rows of noise, the first of them without video; no other condition is dropped."""

    def random(num_tokens: int, width: int) -> Tensor:
        return torch.randn(num_rows, num_tokens, width, device=device)

    never = torch.ones(num_rows)
    exists = torch.arange(num_rows) >= num_without_video
    told = choose_present(exists, torch.ones(num_rows, dtype=torch.bool), DropoutDraws(never, never, never), ConditionDropout())
    latent = random(network.latent_seq_len, network.latent_mean.shape[-1])
    clip, sync = random(network.clip_seq_len, CONDITION_ROWS["clip"].width), random(network.sync_seq_len, CONDITION_ROWS["sync"].width)
    text = random(network.text_seq_len, CONDITION_ROWS["text"].width)
    return FlowBatch(latent, latent.abs(), clip, sync, text, told.to(device))


def compile_(objective: FlowObjective, how: str) -> None:
    """Compile nothing, the whole loss as training with compile=True does, or each transformer block; `how` of COMPILING."""
    parts = {
        "eager": [],
        "compiled": [objective],
        "blocks compiled": [*objective.network.joint_blocks, *objective.network.fused_blocks],
    }
    for part in parts[how]:
        part.compile()


class TrainingStep:
    """Forward: draws and loss. The step: that, backward, clipping and fused AdamW, without averages of the weights and logs.

    Args:
        how: a name of COMPILING.
    """

    def __init__(self, network: FlowTransformer, batch: FlowBatch, *, amp: bool, how: str) -> None:
        self.batch, self.objective = batch, FlowObjective(network, FlowSettings(), amp=amp)
        self.positions = torch.arange(len(batch.a_mean), device=batch.a_mean.device)
        optimizer = build_optimizer(network, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, amp=amp)
        self.optimizer_step = OptimizerStep(network, optimizer, CLIP_GRAD_NORM)
        compile_(self.objective, how)

    def forward(self) -> Tensor:
        """The loss of the batch, with what its backward pass needs."""
        draws = draw_flow(CounterRng(1, 0, self.positions), *self.batch.a_mean.shape[1:])
        return self.objective(self.batch, draws)[0].mean()

    def __call__(self) -> None:
        self.optimizer_step.zero_grad()
        self.optimizer_step.backward(self.forward())
        self.optimizer_step.step()
