"""`mmaudio weights export` as a user meets it: what it writes is generated with, and mistakes are sentences."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.checkpoints.run_files import RunFiles, RunState, WeightsRecord, record_beside
from mmaudio.checkpoints.save import save_checkpoint, save_file, save_weights
from mmaudio.commands.weights import _export_action
from mmaudio.network import build_network


def some_weights(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = build_network("nano_16k", duration_s=1.0, latent_mean=torch.randn(20), latent_std=torch.rand(20) + 0.5)
    torch.nn.init.normal_(network.final_layer.conv.weight, std=0.05)
    for block in (network.fused_blocks[0], network.final_layer):  # so that what modulates it is heard
        torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.1)
    return network.state_dict()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of five iterations whose final layer is told the synchronisation stream, too."""
    folder = tmp_path_factory.mktemp("made") / "birds"
    files, record = RunFiles(folder, "birds"), WeightsRecord("nano_16k", "16k", 1.0, "lite", 5, "birds", final_cond="extended")
    save_file(files.ema_final, some_weights(1), record)
    save_weights(files, some_weights(2), record)
    save_checkpoint(files, RunState(5, some_weights(2), {}, {"last_epoch": 5}, None), record)
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch) -> Path:
    """A copy of it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "birds")
    return Path("birds")


def export(*words: object) -> None:
    assert _export_action([str(word) for word in words]) == 0


def sentences_of(*words: object) -> list[str]:
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as caught:
        export(*words)
    assert sorted(Path().rglob("*")) == before, "nothing was written"
    return list(caught.value.sentences)


def assert_same(path: Path, weights: dict[str, torch.Tensor]) -> None:
    assert load_weights(path).keys() == weights.keys()
    assert [name for name, tensor in load_weights(path).items() if not torch.equal(tensor, weights[name])] == []


def test_either_file_generates_what_the_run_does(run, run_command, tmp_path):
    export(run)
    export(run, "--format", "pth", "--output", "birds.pth")
    (tmp_path / "alone").mkdir()
    shutil.copy(run / "birds_ema_final_export.safetensors", "alone/x.safetensors")
    waves = {}
    for weights in (run / "birds_ema_final.pth", Path("alone/x.safetensors"), Path("birds.pth")):
        ended = run_command(
            "generate", "--weights", weights, "--prompt", "x", "--device", "cpu", "--num_steps", 2, "--output", f"out-{weights.name}"
        )
        assert ended.code == 0, ended.err
        waves[weights.name] = soundfile.read(f"out-{weights.name}/x.flac")[0].tolist()
    assert len(waves["x.safetensors"]) == 16_384
    assert waves["x.safetensors"] == waves["birds.pth"] == waves["birds_ema_final.pth"]


def test_which_weights_are_taken_is_said(run, capsys):
    for words, source, seed in (
        ((), "birds_ema_final.pth", 1),
        (("--weights", "last"), "birds_last.pth", 2),
        (("--weights", "birds_ckpt_last.pth"), "birds_ckpt_last.pth", 2),
    ):
        export(run, *words, "--output", "out.safetensors", "--overwrite")
        assert f"weights: birds/{source} (nano_16k, step 5)\n" in capsys.readouterr().out
        assert_same(Path("out.safetensors"), some_weights(seed))
    export(run / "birds_last.pth")
    assert_same(run / "birds_last_export.safetensors", some_weights(2))


def test_half_precision_loads_as_any(run, run_command):
    export(run, "--dtype", "bf16", "--output", "deep/er/half.safetensors")
    half = load_weights(Path("deep/er/half.safetensors"))
    assert {tensor.dtype for name, tensor in half.items() if name not in ("latent_mean", "latent_std")} == {torch.bfloat16}
    assert torch.equal(half["latent_mean"], some_weights(1)["latent_mean"])
    words = ("--weights", "deep/er/half.safetensors", "--prompt", "x", "--device", "cpu", "--num_steps", 1, "--output", "out")
    assert run_command("generate", *words).code == 0


def test_published_files_need_the_model_s_name(run, capsys):
    published = some_weights(3)
    torch.save(published | {"latent_rot": torch.zeros(1), "t_embed.freqs": torch.zeros(2)}, "published.pth")
    assert sentences_of("published.pth") == ["published.pth has no record beside it; say which model it is with --variant"]
    assert sentences_of("published.pth", "--variant", "nano_44")[0].startswith("no model 'nano_44' (did you mean 'nano_44k'?)")
    (sentence,) = sentences_of("published.pth", "--variant", "nano_44k")
    assert "they are weights of nano_16k" in sentence
    assert sentences_of("published.pth", "--variant", "nano_16k", "--duration", 0.1)[0].startswith("--duration: duration is 0.1 s;")
    export("published.pth", "--variant", "nano_16k", "--format", "pth")
    assert "does not say after how many iterations" in capsys.readouterr().out
    assert read_record(Path("published_export.pth")) == WeightsRecord("nano_16k", "16k", 8.0, "pretrained", 0, "published")
    assert_same(Path("published_export.pth"), published)
    torch.save(RunState(8, published, {}, {"last_epoch": 8}, None).entries() | {"it": 7}, "published_ckpt.pth")
    export("published_ckpt.pth", "--variant", "nano_16k", "--backend", "lite", "--duration", 2, "--output", "x.safetensors")
    assert read_record(Path("x.safetensors")) == WeightsRecord("nano_16k", "16k", 2.0, "lite", 8, "published_ckpt")


def test_nothing_is_replaced_unasked(run):
    Path("x.safetensors").write_text("precious")
    assert sentences_of(run, "--output", "x.safetensors") == [
        "x.safetensors is there already; add --overwrite to replace it, or name another file with --output"
    ]
    export(run, "--output", "x.safetensors", "--overwrite")
    assert read_record(Path("x.safetensors")).step == 5
    (sentence,) = sentences_of(run, "--format", "pth", "--overwrite", "--output", "./birds/../birds/birds_ema_final.pth")
    assert sentence.endswith("the very weights to export; name another file")


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["bird"], ["no run at bird; a run's folder is output/<exp_id>"]),
        (
            ["birds", "--format", "safetensor", "--dtype", "float16", "--wights", "x"],
            [
                "unknown option --wights (did you mean '--weights'?); see mmaudio weights export --help",
                "--format is 'safetensor' (did you mean 'safetensors'?); known are safetensors, pth",
                "--dtype is 'float16' (did you mean 'fp16'?); known are fp32, bf16, fp16",
            ],
        ),
        (["birds", "--output", "."], ["--output is ., which is a folder; name a file, such as birds_ema_final.safetensors"]),
        (["birds", "--output", "x.pth"], ["--output is x.pth, but the name of a safetensors file ends in .safetensors"]),
        (["birds", "--format", "pth", "--output", "x.bin"], ["--output is x.bin, but the name of a pth file ends in .pth or .pt"]),
        (["birds", "--weights", "lst"], ["--weights is lst, which is neither ema nor last nor a file (did you mean 'last'?)"]),
        (
            ["birds/birds_last.pth", "--weights", "ema"],
            ["birds/birds_last.pth is a file, so --weights ema has nothing to choose from; give the run's folder, or leave it out"],
        ),
        (
            ["birds", "--variant", "nano_16k"],
            ["the record of birds/birds_ema_final.pth says already which weights these are (nano_16k); leave out --variant"],
        ),
    ],
)
def test_mistakes_are_sentences(run, words, sentences):
    assert sentences_of(*words) == sentences


def test_a_backend_that_nothing_knows_is_refused(run):
    want = ["no backend 'light' (did you mean 'lite'?); known are pretrained, lite"]
    bare = shutil.copy(run / "birds_last.pth", "bare.pth")
    assert sentences_of(bare, "--variant", "nano_16k", "--backend", "light") == want


def test_a_run_that_trained_on_after_its_averages_is_asked_about(run):
    for name, step in (("birds_ema_final.pth", 3), ("birds_last.pth", 7)):
        beside = record_beside(run / name)
        beside.write_text(json.dumps(json.loads(beside.read_text()) | {"step": step}))
    want = "birds_ema_final.pth is of step 3 and birds_last.pth of step 7; say which is meant: --weights ema or --weights last"
    assert sentences_of("birds") == [want]
    export("birds", "--weights", "last")


def test_bad_weights_are_sentences(run):
    path = run / "birds_ema_final.pth"
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    assert sentences_of(run)[0].startswith("birds/birds_ema_final.pth is no readable weights file: ")
    torch.save(some_weights(1) | {"latent_std": torch.full((1, 1, 20), float("inf"))}, path)
    assert sentences_of(run)[0].startswith("birds/birds_ema_final.pth holds numbers that are not finite, the first in latent_std")
    record_beside(path).write_text("{}")
    assert sentences_of(run)[0].startswith("birds/birds_ema_final.pth.json is no readable record")
