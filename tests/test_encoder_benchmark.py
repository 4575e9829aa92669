"""The benchmark of the encoders: what it counts is what was published, and what it measures is what it says."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import encoder_case, encoders
from benchmarks.encoder_case import Case, Row, measure
from benchmarks.encoder_clips import Clips, measure_clips
from benchmarks.encoder_networks import (
    SECOND,
    Network,
    clip_images,
    clip_text,
    networks_for,
    synchformer,
    vae_decoder,
    vae_encoder,
    vocoder,
)
from benchmarks.limited import Ended
from benchmarks.memory import peak_bytes
from mmaudio.codec import load_vae
from mmaudio.encoders import load_clip, load_synchformer
from mmaudio.features import build_backend
from mmaudio.files.tensor_files import read_state_dict
from mmaudio.trainer.costs import MATMUL_SIDE

CPU, META = torch.device("cpu"), torch.device("meta")
NUM_MIB = 64


def line(width: int = 64, num_blocks: int = 1, of_blocks: int = 1) -> Network:
    """A network whose blocks are one matrix each, so that everything about it is known."""
    return Network(
        name="line",
        item="row",
        build=lambda num_blocks: nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(num_blocks))),
        run=lambda module, rows: module(rows.to(module[0].weight.dtype)),
        inputs=lambda: torch.randn(8, width),
        num_items=8,
        part_compiled=lambda module: module,
        num_blocks=num_blocks,
        of_blocks=of_blocks,
        per_clip=2,
    )


# performance.md, section 1: what extraction's arithmetic floor is computed from.
def test_a_frame_through_clip_is_the_published_operations():
    network = clip_images(1)
    assert network.flops(network.of_blocks) / 1e9 == pytest.approx(1007, abs=0.5)


def test_a_segment_through_synchformer_is_the_published_operations_and_those_of_the_summary():
    network = synchformer(1)
    module = network.ready(META, torch.float32)
    summary = module.vfeat_extractor.spatial_attn_agg
    with META, torch.no_grad(), FlopCounterMode(display=False) as counter:
        summary(torch.empty(8, 196, 768))
    published = 371  # GFLOP; what sums the tokens of a pair of frames up was not counted in it
    assert (network.flops(network.of_blocks) - counter.get_total_flops()) / 1e9 == pytest.approx(published, abs=0.5)
    assert network.flops(network.of_blocks) / 1e9 == pytest.approx(374.9, abs=0.1)


def test_a_clip_is_the_published_number_of_items():
    rows = {network.name: network for network in networks_for(torch.device("cuda"))}
    per_clip = {name: network.per_clip for name, network in rows.items() if network.per_clip}
    assert per_clip == {"CLIP ViT-H/14, images": 64, "Synchformer": 24, "CLIP ViT-H/14, text": 1, "VAE encoder, 16k": 8.0}
    assert all(network.num_blocks == network.of_blocks for network in rows.values())
    assert list(rows) == [network.name for network in networks_for(CPU)]


@pytest.mark.parametrize("make", [vae_encoder, vae_decoder, vocoder])
def test_operations_grow_with_the_sound(make):
    short, long = make("16k", 1, 0.032), make("16k", 2, 0.064)
    assert long.num_items == pytest.approx(4 * short.num_items) == pytest.approx(0.128)
    if make is not vocoder:  # whose count takes seconds
        assert long.flops(1) == pytest.approx(4 * short.flops(1), rel=0.01)


@pytest.mark.parametrize("network", [clip_text(1, num_blocks=1), vae_encoder("16k", 1, 0.1)], ids=lambda network: network.name)
def test_real_networks_run(network):
    row = measure(network, Case(), CPU)
    assert row.failure is None and row.seconds > 0 and row.rate > 0
    assert row.flops == pytest.approx(network.flops(network.of_blocks) / network.num_items)


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
def test_times_are_of_all_blocks_and_one_item(monkeypatch, arithmetic):
    ran = []
    monkeypatch.setitem(MATMUL_SIDE, "cpu", 256)
    monkeypatch.setattr(encoder_case, "seconds_of", lambda calls, device: ran.extend(call() for call in calls) or [2.0, 0.5])
    some, all_of_them = (measure(line(512, num, 8), Case(arithmetic), CPU) for num in (1, 8))
    assert len(ran) == 4 and some.flops == all_of_them.flops == 8 * 2 * 512**2
    assert (some.seconds, all_of_them.seconds) == pytest.approx((2.0 * 8 / 8, 2.0 / 8))  # eight rows at once
    assert some.rate == pytest.approx(2 * 256**3 / 0.5)  # the smallest product is one
    assert (some.amount, all_of_them.amount) == ("8 at once, 1 of 8 blocks", "8 at once")


def test_what_cannot_be_run_is_a_row_that_says_why(monkeypatch):
    def refuse(module, *_args, **_kwargs):
        raise RuntimeError("no compiler here\nand a long story")

    monkeypatch.setattr(nn.Module, "compile", refuse)
    row = measure(line(), Case(compiled=True), CPU)
    assert (row.failure, row.seconds) == ("no compiler here", None)
    assert "| no compiler here |" in f"| {' | '.join(encoders.cells(row))} |" and len(encoders.cells(row)) == len(encoders.COLUMNS)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells")
def test_the_peak_is_what_a_call_takes_and_gives_back():
    peak = peak_bytes(lambda: torch.ones(NUM_MIB * 2**18).sum(), CPU)
    assert peak == pytest.approx(NUM_MIB * 2**20, rel=0.2)


def test_whole_clips_through_a_backend():
    def build():
        return build_backend("lite", "16k", duration_s=0.64)

    clips = measure_clips(build(), build, num_clips=2)
    assert clips.clips_per_s > 0
    assert clips.cosines == pytest.approx({"scene": 1.0, "sync": 1.0, "text": 1.0, "sound": 1.0})


def test_written_weights_are_small_files_that_load(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where no published weights are
    places = encoders.weights_for_clips(tmp_path)
    assert "random weights" in capsys.readouterr().out
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 40e6
    load_vae(read_state_dict(Path(places["vae_16k"])), "16k", with_decoder=False)
    encoder = load_synchformer(read_state_dict(Path(places["synchformer"])))
    assert encoder.vfeat_extractor.blocks[0].mlp.fc1.weight.std() == pytest.approx(768**-0.5, rel=0.1)
    clip = load_clip(Path(places["clip"]), image=False)
    assert clip.encode_text(["a dog"]).shape == (1, 77, 1024)


def test_cases():
    assert list(encoders.cases_for(CPU, {})) == [Case()]
    on_gpu = list(encoders.cases_for(torch.device("cuda"), {"clip": "here"}))
    assert [(case.arithmetic, case.compiled) for case in on_gpu[:3]] == [("bf16", False), ("bf16", True), ("TF32", False)]
    assert len(on_gpu) == 6 and all(Case(**json.loads(json.dumps(asdict(case)))) == case for case in on_gpu)


def test_what_extraction_needs_is_measured_first(monkeypatch):
    monkeypatch.setattr(encoder_case, "whole_clips", lambda case, device: "clips")
    monkeypatch.setattr(encoder_case, "measure", lambda network, case, device: network.name)
    monkeypatch.setattr(encoder_case.Arithmetic, "choose", lambda arithmetic: None)
    found = list(encoder_case.results(Case(places={"clip": "here"}), CPU))
    assert found.index("clips") == 4 and "VAE encoder, 16k" in found[:4] and len(found) == 10
    assert "clips" not in encoder_case.results(Case(), CPU)


def test_the_table(capsys):
    row = Row("line", "row", "8 at once", per_clip=10, flops=2e12, seconds=0.5, rate=8e12, peak_bytes=3_000_000)
    other = Row("sound", SECOND, "1 at once", per_clip=0, flops=1e9, failure="no memory")
    clips = Clips(clips_per_s=0.1, peak_bytes=2_000_000_000, cosines={"scene": 0.99})
    lines = [json.dumps({type(each).__name__: asdict(each)}) for each in (row, other, clips)]
    encoders.print_results(Ended(lines, "gave up after 3 s"))
    _, _, first, second, _, items, whole, rest = capsys.readouterr().out.strip().split("\n")
    assert first == "| line | row | 500 | 2,000.0 | 250 | 2.00 | 8 at once | 3 |"
    assert second.startswith("| sound | s of sound | no memory | 1.0 |")
    assert "20.0 TFLOP, 5 s, 0.2 clips/s (line 100.0%); floor 2.5 s, 0.4 clips/s" in items
    assert "0.1 clips/s, 25% of the floor's, peak 2.0 GB" in whole and "scene 0.990000" in whole
    assert rest == "The rest gave up after 3 s."


def test_a_clip_that_lacks_an_item_is_not_told():
    known = Row("line", "row", "8 at once", per_clip=10, flops=2e12, seconds=0.5, rate=8e12)
    failed = Row("other", "row", "8 at once", per_clip=1, flops=2e12, failure="no memory")
    assert encoders.whole_clip([known], None) and not encoders.whole_clip([known, failed], None)
