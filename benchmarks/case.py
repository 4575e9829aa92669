"""One row of the network's table, measured in a process of its own: `python -m benchmarks.case '{"variant": "tiny_16k", …}'`.

Prints a JSON object as soon as there is something to say, so that what is known when the time is up is kept.
"""

import dataclasses
import json
import sys
import time

import torch

from benchmarks.rates import NAMES, bench_device, seconds_of
from benchmarks.step import TrainingStep, new_batch, new_network
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.trainer.costs import MatrixProduct

DTYPES = {name: dtype for dtype, name in NAMES.items()}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured: precision is a value of rates.NAMES, `how` a key of step.COMPILING."""

    variant: str
    num_rows: int
    precision: str = "float32"
    how: str = "eager"
    duration_s: float = DEFAULT_DURATION_S


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a case took; None where it did not come that far. All but the first step and the peak are measured in turns."""

    first_step_s: float | None = None
    peak_bytes: int | None = None
    step_s: float | None = None
    forward_s: float | None = None
    eager_s: float | None = None  # a step of the same network without compiling
    matmul_rate: float | None = None  # FLOP/s


def _build(case: Case, how: str, device: torch.device) -> TrainingStep:
    network = new_network(case.variant, case.duration_s, device)
    return TrainingStep(network, new_batch(network, case.num_rows, device), amp=case.precision == NAMES[torch.bfloat16], how=how)


def measure(case: Case) -> None:
    """Print the fields of Measured, one or more at a time."""
    device = bench_device()
    step = _build(case, case.how, device)
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    _say(first_step_s=time.perf_counter() - began)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        _say(peak_bytes=torch.cuda.max_memory_allocated(device))
    others = [] if case.how == "eager" else [_build(case, "eager", device)]
    product = MatrixProduct.on(device, DTYPES[case.precision])
    step_s, forward_s, product_s, *others_s = seconds_of([step, step.forward, product, *others], device)
    _say(step_s=step_s, forward_s=forward_s, eager_s=others_s[0] if others else step_s, matmul_rate=product.flops / product_s)


def _say(**known: float) -> None:
    print(json.dumps(known), flush=True)


if __name__ == "__main__":
    measure(Case(**json.loads(sys.argv[1])))
