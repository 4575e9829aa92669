"""Operations of the network, counted without computing anything, beside those of the published implementation."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step import new_batch, new_network
from mmaudio.base.draws import Draws
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.flow.loss import FlowSettings, draw_flow, flow_loss

# GFLOP forward and backward of one 8 s sample that is told everything, by torch's counter.
PUBLISHED_GFLOP = {"small_16k": 183.6, "small_44k": 246.7, "medium_44k": 959.6, "large_44k": 1582.5, "large_44k_v2": 1582.5}
NUM_ROWS, NUM_WITHOUT_VIDEO = 10, 3  # the mixture that what is saved on nulls is stated for: 30 % sound alone
META = torch.device("meta")
SAVINGS = (
    "What is saved: modulations are computed for each row of sync features, of which several latent tokens take the same one, and what\n"
    "stands for a condition that a sample is not told is projected once a batch. Neither changes a value."
)


def told_everything_flops(variant: str) -> int:
    """Of the velocity of one sample and its gradients."""
    network = new_network(variant, DEFAULT_DURATION_S, META)
    batch = new_batch(network, 1, META)
    with FlopCounterMode(display=False) as counter:
        velocity = network(batch.a_mean, batch.clip_features, batch.sync_features, batch.text_features, torch.rand(1, device=META))
        velocity.sum().backward()
    return counter.get_total_flops()


def step_flops(variant: str, num_rows: int, num_without_video: int = 0, duration_s: float = DEFAULT_DURATION_S) -> int:
    """Of the loss of a batch and its gradients."""
    network = new_network(variant, duration_s, META)
    batch = new_batch(network, num_rows, META, num_without_video)
    draws = draw_flow(Draws(1, 0, torch.arange(num_rows, device=META)), *batch.a_mean.shape[1:])
    with FlopCounterMode(display=False) as counter:
        flow_loss(network, batch, draws, FlowSettings()).loss_b.mean().backward()
    return counter.get_total_flops()


def print_table() -> None:
    """GFLOP forward and backward per 8 s sample."""
    print("GFLOP of a sample of 8 s, forward and backward; the ratio is to the published implementation\n")
    print("| model | published | ours | ratio | 30 % of rows without video | ratio |\n|---|---|---|---|---|---|")
    for variant, published in PUBLISHED_GFLOP.items():
        counts = told_everything_flops(variant), step_flops(variant, NUM_ROWS, NUM_WITHOUT_VIDEO) / NUM_ROWS
        ours = " | ".join(f"{count / 1e9:,.1f} | {count / 1e9 / published:.3f}" for count in counts)
        print(f"| {variant} | {published:,.1f} | {ours} |", flush=True)
    print(f"\n{SAVINGS}")
