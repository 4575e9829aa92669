"""Cost of a training step: seconds, samples per second, and the share of the measured matrix-product rate it reaches."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmaudio.base.draws import Draws
from mmaudio.flow.loss import FlowBatch, FlowSettings, draw_flow, flow_loss
from mmaudio.network import FlowTransformer, build_network, find_variant

REPEATS = 5
MATMUL_SIDE = 2048


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    variant: str
    batch_size: int
    duration_s: float


CASES = (Case("nano_16k", 16, 2.0), Case("tiny_16k", 4, 8.0), Case("small_16k", 1, 8.0))


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Median time of a call, after one that does not count."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return median(times[1:])


def matmul_rate(device: torch.device) -> float:
    """Measured FLOP per second of a large float32 matrix product."""
    a = torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device)
    return 2 * MATMUL_SIDE**3 / seconds(lambda: a @ a, device)


def _batch(network: FlowTransformer, num: int, device: torch.device) -> FlowBatch:
    def random(tokens: int, width: int) -> Tensor:
        return torch.randn(num, tokens, width, device=device)

    there = torch.ones(num, dtype=torch.bool, device=device)
    latent = random(network.latent_seq_len, network.latent_mean.shape[-1])
    clip, sync = random(network.clip_seq_len, 1024), random(network.sync_seq_len, 768)
    return FlowBatch(latent, latent.abs(), clip, sync, random(network.text_seq_len, 1024), there, there)


def print_table(device: torch.device) -> None:
    """Forward and backward of the flow loss, without optimizer."""
    rate = matmul_rate(device)
    print(f"training step, float32, eager; matrix product {rate / 1e9:.0f} GFLOP/s\n")
    print("| variant | batch | seconds of sound | s/step | samples/s | GFLOP/sample | share of the matmul rate |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        channels = 20 if find_variant(case.variant).mode == "16k" else 40
        network = build_network(
            case.variant, duration_s=case.duration_s, latent_mean=torch.zeros(channels), latent_std=torch.ones(channels)
        ).to(device)
        batch = _batch(network, case.batch_size, device)
        draws = draw_flow(Draws(1, 0, torch.arange(case.batch_size, device=device)), network.latent_seq_len, channels)

        def step(network: FlowTransformer = network, batch: FlowBatch = batch, draws=draws) -> None:  # type: ignore[no-untyped-def]
            network.zero_grad(set_to_none=True)
            flow_loss(network, batch, draws, FlowSettings()).loss_b.mean().backward()

        with FlopCounterMode(display=False) as counter:
            step()
        spent_s, flops = seconds(step, device), counter.get_total_flops()
        share = flops / spent_s / rate
        shown = (case.variant, case.batch_size, f"{case.duration_s:g}", f"{spent_s:.3f}", f"{case.batch_size / spent_s:.2f}")
        print("| " + " | ".join(map(str, (*shown, f"{flops / case.batch_size / 1e9:.1f}", f"{share:.0%}"))) + " |")
    print()
