"""One process and two, joined by gloo: each makes its share, and the latents are the same."""

import textwrap

import pytest
import torch

from tests.conftest import ROOT, torchrun

SCRIPT = """
import sys
import torch
from mmaudio.distributed.collectives import gather_objects, process_group
from mmaudio.distributed.devices import set_threads
from mmaudio.distributed.ranks import read_ranks
from mmaudio.generate.sampler import ConditionBatch, SampleSettings, sample_latents
from mmaudio.network import build_network

batch_size, target = int(sys.argv[1]), sys.argv[2]
ranks = read_ranks()
set_threads(ranks)
torch.manual_seed(0)
network = build_network("tiny_16k", duration_s=2.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20)).eval()
for block in (network.joint_blocks[0].latent_block, network.fused_blocks[0], network.final_layer):
    torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.03)
torch.nn.init.normal_(network.final_layer.conv.weight, std=0.03)
features = [torch.randn(6, *shape) for shape in ((77, 1024), (network.clip_seq_len, 1024), (network.sync_seq_len, 768))]
with process_group(ranks, torch.device("cpu")):
    own, made = list(range(6))[ranks.rank :: ranks.world_size], {}
    for start in range(0, len(own), batch_size):
        rows = own[start : start + batch_size]
        batch = ConditionBatch([f"id {row}" for row in rows], *(part[rows] for part in features))
        latents = sample_latents(network, batch, SampleSettings())
        made |= dict(zip(rows, latents, strict=True))
    shares = gather_objects(made)
    if ranks.is_first:
        assert sum(map(len, shares)) == 6
        everything = {row: latent for share in shares for row, latent in share.items()}
        torch.save(torch.stack([everything[row] for row in range(6)]), target)
"""


@pytest.mark.slow
def test_two_processes_make_the_latents_of_one(tmp_path):
    script = tmp_path / "sample.py"
    script.write_text(textwrap.dedent(SCRIPT))
    made = {}
    for processes, batch_size in ((1, 4), (2, 1), (2, 4)):
        target = tmp_path / f"{processes}-{batch_size}.pt"
        ended = torchrun(script, batch_size, target, processes=processes, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
        assert ended.returncode == 0, ended.stderr
        made[processes, batch_size] = torch.load(target)
    for latents in made.values():
        assert (latents - made[1, 4]).abs().max() < 1e-5
    assert made[1, 4].std() > 0.5
