"""The benchmarks: what they compute is what they say they time, and they come to an end whatever compiling does."""

import json
import runpy
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import checksums, network, operations, rates
from benchmarks.case import Case
from benchmarks.convolution import WAYS, Shape, print_rows
from benchmarks.limited import run_limited
from benchmarks.step import TrainingStep, compile_, new_batch, new_network
from mmaudio.base.errors import UserError
from mmaudio.trainer.costs import MATMUL_SIDE, flops_per_row
from tests.conftest import ROOT

CPU = torch.device("cpu")


# What performance.md section 1 says the modulation of repeated rows costs the published implementation.
@pytest.mark.parametrize(("variant", "saved"), [("small_16k", 0.027), ("small_44k", 0.054), ("medium_44k", 0.055), ("large_44k", 0.059)])
def test_operations_are_the_published_ones_less_what_is_saved(variant, saved):
    published = operations.PUBLISHED_GFLOP[variant] * 1e9
    assert flops_per_row(variant) == pytest.approx(published * (1 - saved), rel=1e-3)


def test_rows_without_video_cost_less_and_a_null_is_projected_once():
    everyone, some, nobody = (operations.step_flops("tiny_16k", 10, without_video) for without_video in (0, 3, 10))
    assert nobody < some < everyone
    assert everyone - some == pytest.approx(0.3 * (everyone - nobody))


def test_every_way_is_the_same_convolution():
    x_bnc, weight_ock = torch.randn(2, 11, 6, dtype=torch.float64), torch.randn(5, 6, 7, dtype=torch.float64)
    want = WAYS["conv1d (the network's way)"].compute(x_bnc, weight_ock)
    assert want.shape == (2, 11, 5)
    for way in WAYS.values():
        assert torch.allclose(way.compute(x_bnc, weight_ock), want, rtol=1e-10)


def test_the_table_of_checksums(capsys):
    checksums.print_table(num_tensors=2)
    rows = [row.split("|")[1:-1] for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].split()[-1] for row in rows] == [".pth", ".safetensors"]
    assert all(float(figure) >= 0 for row in rows for figure in (row[1], row[2], row[4]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_table(capsys, monkeypatch, dtype):
    monkeypatch.setitem(MATMUL_SIDE, "cpu", 64)
    print_rows([Shape(3, 8, 16)], 2, 32, CPU, dtype)
    forward, both = capsys.readouterr().out.splitlines()[-2:]
    assert forward.startswith("| 3 | 8 → 16 | forward |") and both.startswith("| 3 | 8 → 16 | forward + backward |")
    assert forward.count("%") == both.count("%") == len(WAYS)


def test_calls_are_timed_in_turns(monkeypatch):
    clock, done = [0.0], []

    def call(name: str, *spent_s: float) -> None:
        done.append(name)
        clock[0] += spent_s[min(done.count(name), len(spent_s)) - 1]

    monkeypatch.setattr(rates.time, "perf_counter", lambda: clock[0])
    # The first call of "first" compiles; one of its later calls is disturbed. The short call is repeated to last 10 ms.
    calls = [lambda: call("first", 9.0, 1.0, 1.0, 5.0, 1.0), lambda: call("short", 0.004)]
    assert rates.seconds_of(calls, CPU) == [pytest.approx(1.0), pytest.approx(0.004)]
    assert "".join(name[0] for name in done) == "fs" + "fs" + 3 * "fsss"


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # bf16 heads, float32 weight: not the fused norm
@pytest.mark.parametrize("amp", [False, True])
def test_a_step_changes_the_weights_and_blocks_are_what_is_compiled(monkeypatch, amp):
    subject = new_network("nano_16k", 1.0, CPU)
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    step = TrainingStep(subject, new_batch(subject, 2, CPU), amp=amp, how="blocks compiled")
    assert compiled == [*subject.joint_blocks, *subject.fused_blocks]
    compile_(step.objective, "compiled")
    assert compiled[-1] is step.objective
    before = subject.final_layer.conv.bias.detach().clone()
    step()
    assert not torch.equal(before, subject.final_layer.conv.bias)


@pytest.mark.slow
def test_the_table_of_the_network(capsys):
    cases = [Case("nano_16k", 2, duration_s=1.0), Case("nano_16k", 2, how="not a way", duration_s=1.0)]
    network.print_rows(cases, limit_s=120, compiling_s=120)
    network.print_rows(cases[1:], limit_s=120, compiling_s=0)
    header, _, eager, wrong, _, _, not_tried = capsys.readouterr().out.splitlines()
    rows = [dict(zip(header.split("|"), row.split("|"), strict=True)) for row in (eager, wrong)]
    assert rows[0][" speed-up over eager "] == " 1.00 " and float(rows[0][" samples/s "]) > 0
    flops = operations.step_flops("nano_16k", 2, duration_s=1.0)
    assert float(rows[0][" GFLOP/sample "]) == pytest.approx(flops / 2 / 1e9, abs=0.05)
    assert rows[1][" speed-up over eager "] == " failed: KeyError: 'not a way' "
    assert "not tried: the time for compiling is used up" in not_tried


def test_what_takes_too_long_is_given_up_with_its_children(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text(
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "print('known', flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = run_limited("endless", [], limit_s=3)
    assert ended.lines == ["known"] and ended.failure == "gave up after 3 s"
    child = Path("/proc", (tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while child.exists() and child.joinpath("stat").read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists() or child.joinpath("stat").read_text().split()[2] == "Z"


def test_cases_of_a_gpu_are_all_ways_of_all_models(monkeypatch):
    monkeypatch.setattr(network, "precisions", lambda device: (torch.float32, torch.bfloat16))
    cases = network.cases_for(torch.device("cuda"), ["small_16k", "large_44k"])
    assert len(cases) == 2 * 2 * 3 and cases[0].how == "eager"
    assert all(Case(**json.loads(json.dumps(asdict(case)))) == case for case in cases)


def test_unknown_names_are_told_at_once(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "netwrok", "--models", "tiny_61k"])
    with pytest.raises(UserError) as refused:
        bench.main()
    tables, models = refused.value.sentences
    assert "did you mean 'network'" in tables and "did you mean 'tiny_16k'" in models


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "rates"])
    monkeypatch.setitem(rates.COPY_BYTES, "cpu", 2**20)
    with pytest.raises(SystemExit) as leave:
        runpy.run_path(str(ROOT / "benchmarks" / "__main__.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert not leave.value.code
    assert "torch " in told.splitlines()[0] and "TFLOP/s" in told and "(rates: " in told
