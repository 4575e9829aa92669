"""Time of the network's forward pass and of a training step: eager and compiled, in every precision training may use here."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.case import Case, Measured
from benchmarks.limited import run_limited
from benchmarks.operations import step_flops
from benchmarks.rates import NAMES, bench_device, precisions
from benchmarks.step import COMPILING
from mmaudio.base.errors import UserError, nearest
from mmaudio.distributed.devices import pick_device
from mmaudio.distributed.ranks import Ranks

BATCH = {
    "cpu": {"tiny_16k": 4, "small_16k": 1},
    "cuda": {"tiny_16k": 256, "small_16k": 128, "medium_44k": 64, "large_44k": 32},
}
TOO_LONG = {"cpu": [("small_16k", "compiled")], "cuda": []}  # not tried there: its blocks say as much in half the time
LIMIT_S = 220.0  # of one row
COMPILING_S = {"cpu": 240.0, "cuda": 3000.0}  # of all rows that compile together
SHORTEST_TRY_S = 30.0
COLUMNS = (
    *("model", "precision", "how", "rows", "speed-up over eager", "share of the matmul rate", "samples/s"),
    *("step, ms", "forward, ms", "GFLOP/sample", "compiling, s", "peak, GB"),
)
LEGEND = """\
8 s of sound a row, every condition told. Forward: random numbers of the step and the loss of the batch, keeping what the backward
pass needs. Step: that, backward, gradient clipping and fused AdamW; no averages of the weights. Compiling: the first step less a
later one, with an empty cache. "compiled" compiles the whole loss, as training with compile=True does; "blocks compiled" each
transformer block. An eager step and a matrix product are timed in turns with each row's step; speed-up and share are to these.
Operations: forward and backward, as counted for this batch.
"""


def check_models(models: Sequence[str]) -> None:
    """Raises: UserError for a model that has no row on this machine."""
    device = pick_device("auto", Ranks())
    known = BATCH[device.type]
    for model in models:
        if model not in known:
            raise UserError(
                f"the network's table has no row of {model!r} on {device.type}{nearest(model, known)}; it has {', '.join(known)}"
            )


def cases_for(device: torch.device, models: Sequence[str]) -> list[Case]:
    """The table's cases, of all models or of some. What may be given up comes last."""
    rows_of = BATCH[device.type]
    return [
        Case(model, rows_of[model], NAMES[dtype], how)
        for how in COMPILING
        for model in rows_of
        for dtype in precisions(device)
        if (not models or model in models) and (model, how) not in TOO_LONG[device.type]
    ]


def run_case(case: Case, limit_s: float) -> tuple[Measured, str | None]:
    """Measure a case in a process of its own; what is known of it, and why that is not everything."""
    ended = run_limited("benchmarks.case", [json.dumps(asdict(case))], limit_s)
    known: dict[str, Any] = {}
    for line in ended.lines:
        known |= json.loads(line)
    return Measured(**known), ended.failure


def cells(case: Case, measured: Measured, failure: str | None) -> list[str]:
    """A row of the table."""
    first = [case.variant, case.precision, case.how, str(case.num_rows)]
    if not (measured.first_step_s and measured.step_s and measured.forward_s and measured.eager_s and measured.matmul_rate):
        return [*first, failure or "nothing measured", *[""] * (len(COLUMNS) - 5)]
    flops = step_flops(case.variant, case.num_rows, duration_s=case.duration_s)
    return [
        *first,
        f"{measured.eager_s / measured.step_s:.2f}",
        f"{flops / measured.step_s / measured.matmul_rate:.0%}",
        f"{case.num_rows / measured.step_s:.3g}",
        f"{measured.step_s * 1e3:.0f}",
        f"{measured.forward_s * 1e3:.0f}",
        f"{flops / case.num_rows / 1e9:.1f}",
        "" if case.how == "eager" else f"{measured.first_step_s - measured.step_s:.0f}",
        "" if measured.peak_bytes is None else f"{measured.peak_bytes / 1e9:.1f}",
    ]


def print_rows(cases: Iterable[Case], limit_s: float, compiling_s: float) -> None:
    """A row for each case, as soon as it is known; none takes longer than `limit_s`, those that compile together `compiling_s`."""
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for case in cases:
        began = time.monotonic()
        if case.how == "eager":
            measured, failure = run_case(case, limit_s)
        elif compiling_s < SHORTEST_TRY_S:
            measured, failure = Measured(), "not tried: the time for compiling is used up"
        else:
            measured, failure = run_case(case, min(limit_s, compiling_s))
            compiling_s -= time.monotonic() - began
        print(f"| {' | '.join(cells(case, measured, failure))} |", flush=True)


def print_table(models: Sequence[str] = ()) -> None:
    """All models with a row on this device, or some of them."""
    device = bench_device()
    print(LEGEND)
    print_rows(cases_for(device, models), LIMIT_S, COMPILING_S[device.type])
