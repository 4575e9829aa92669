"""Operations of the network, counted without computing anything, beside those of the published implementation."""

import torch

from benchmarks.step import new_batch, new_network
from mmaudio.base.rng import CounterRng
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.flow.loss import FlowSettings, draw_flow, flow_loss
from mmaudio.trainer.costs import count_flops, flops_per_row

# GFLOP forward and backward of one 8 s sample that is told everything, by torch's counter.
PUBLISHED_GFLOP = {"small_16k": 183.6, "small_44k": 246.7, "medium_44k": 959.6, "large_44k": 1582.5, "large_44k_v2": 1582.5}
NUM_ROWS, NUM_WITHOUT_VIDEO = 10, 3  # the mixture that what is saved on nulls is stated for: 30 % sound alone
META = torch.device("meta")
SAVINGS = (
    "What is saved: modulations are computed for each row of sync features, of which several latent tokens take the same one, and what\n"
    "stands for a condition that a sample is not told is projected once a batch. Neither changes a value."
)


def step_flops(variant: str, num_rows: int, num_without_video: int = 0, duration_s: float = DEFAULT_DURATION_S) -> int:
    """Of the loss of a batch and its gradients."""
    network = new_network(variant, duration_s, META)
    batch = new_batch(network, num_rows, META, num_without_video)
    draws = draw_flow(CounterRng(1, 0, torch.arange(num_rows, device=META)), *batch.a_mean.shape[1:])
    return count_flops(lambda: flow_loss(network, batch, draws, FlowSettings()).loss_b.mean())


def print_table() -> None:
    """GFLOP forward and backward per 8 s sample."""
    print("GFLOP of a sample of 8 s, forward and backward; the ratio is to the published implementation\n")
    print("| model | published | ours | ratio | 30 % of rows without video | ratio |\n|---|---|---|---|---|---|")
    for variant, published in PUBLISHED_GFLOP.items():
        counts = flops_per_row(variant), step_flops(variant, NUM_ROWS, NUM_WITHOUT_VIDEO) / NUM_ROWS
        ours = " | ".join(f"{count / 1e9:,.1f} | {count / 1e9 / published:.3f}" for count in counts)
        print(f"| {variant} | {published:,.1f} | {ours} |", flush=True)
    print(f"\n{SAVINGS}")
