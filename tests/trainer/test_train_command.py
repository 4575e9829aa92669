"""train.py as a user meets it: own data, mistakes, processes."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import train
from mmaudio.base.errors import UserError
from mmaudio.runs.folder import lock_run
from mmaudio.trainer.tracker import read_metrics
from tests.conftest import ROOT, own_handlers, torchrun, train_in_process
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data, write_tiny_store

SHORT = ("num_iterations=2", "log_text_interval=1", "val_interval=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run train.py with these words in an empty folder, in this process; its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        try:
            return train.main(words)
        except SystemExit as leave:
            return int(leave.code or 0)

    with own_handlers():
        yield call


@pytest.fixture(scope="module")
def two_steps(data, tmp_path_factory) -> Path:
    """A folder with a finished run of two iterations, output/x."""
    folder = tmp_path_factory.mktemp("two_steps")
    train_in_process(folder, *TINY, *data_overrides(data), *SHORT, "exp_id=x")
    return folder


@pytest.fixture
def begun(two_steps, tmp_path) -> None:
    """That run is in the working folder of the command."""
    shutil.copytree(two_steps / "output", tmp_path / "output")


def sentences_of(command, *words: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        command(*words)
    return list(caught.value.sentences)


def mistakes_of(command, *words: str) -> list[str]:
    sentences = sentences_of(command, *words)
    assert list(Path().iterdir()) == []  # nothing was written
    return sentences


def test_own_data_on_the_command_line(command, data, tmp_path):
    assert command(*TINY, *data_overrides(data), *SHORT, "val_interval=1", "exp_id=1e5") == 0
    folder = tmp_path / "output" / "1e5"
    assert OmegaConf.load(folder / "config.yaml").exp_id == "1e5"
    told = json.loads((folder / "1e5_ema_final.pth.json").read_text())
    assert len(told.pop("checksums")) == 1
    assert told == {
        "variant": "nano_16k",
        "mode": "16k",
        "duration_s": 1.0,
        "backend": "lite",
        "step": 2,
        "exp_id": "1e5",
        "format_version": 1,
        "final_cond": "global",
        "dropped": [],
        "freeze": [],
    }
    assert len(json.loads((folder / "signature.json").read_text())["signature"]) == 10
    assert [line["steps_done"] for line in read_metrics(folder) if "valid/loss" in line] == [0, 1, 2]
    assert "train 2: loss" in (folder / "train.log").read_text()
    assert len(list(folder.glob("train-*-hydra/config.yaml"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_own_file_of_sources_and_no_name(command, data, tmp_path):
    folder = tmp_path / "settings" / "data"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"train: [owls]\nval: []\nowls: {{tsv: {data}/birds.tsv, memmap_dir: {data}/birds, repeat: 2}}\n")
    assert command("--config-dir", "settings", "data=mine", *TINY, *SHORT, "batch_size=12") == 0
    (run,) = (tmp_path / "output").iterdir()
    assert (run / f"{run.name}_last.pth").is_file()
    assert json.loads((run / "signature.json").read_text())["signature"] == run.name
    assert not any("valid/loss" in line for line in read_metrics(run))


def test_a_mix_by_others_runs_nothing(command, data, tmp_path):
    folder, mark = tmp_path / "settings" / "data", tmp_path / "ran"
    folder.mkdir(parents=True)
    callback = f"{{_target_: logging.FileHandler, filename: '{mark}'}}"
    (folder / "mine.yaml").write_text(f"# @package _global_\nhydra: {{callbacks: {{evil: {callback}}}}}\ndata: {{train: []}}\n")
    sentences = sentences_of(command, "--config-dir", "settings", "data=mine", *TINY, *SHORT, "exp_id=x")
    assert any("mine.yaml says '@package _global_'" in sentence for sentence in sentences)
    assert not mark.exists() and not (tmp_path / "output").exists()


def test_other_settings_of_the_same_run_are_told(command, data, tmp_path):
    words = (*TINY, *data_overrides(data), *SHORT, "exp_id=x", "val_interval=0", "ema.enable=False")
    assert command(*words) == 0
    assert command(*words, "learning_rate=1e-3", "num_iterations=3") == 0
    told = (tmp_path / "output" / "x" / "train.log").read_text()
    assert "this run was begun with learning_rate = the default and goes on with 0.001" in told
    with pytest.raises(UserError, match=r"holds a run with model=nano_16k, not model=tiny_16k"):
        command(*words, "model=tiny_16k")
    with pytest.raises(UserError, match=r"x_ckpt_shadow\.pth stands at 2 iterations, but this run's own .*_ckpt_last\.pth is at 3;"):
        command(*words, f"checkpoint={tmp_path}/output/x/x_ckpt_shadow.pth")
    with pytest.raises(UserError, match="is no training checkpoint"):
        command(*words, f"checkpoint={tmp_path}/output/x/x_last.pth")


@pytest.fixture(scope="module")
def averaged(data, tmp_path_factory) -> Path:
    """The folder of a run that keeps one average, updated at every second iteration."""
    folder = tmp_path_factory.mktemp("averaged")
    words = ["ema.sigma_rels=[0.1]", "ema.update_every=2", "exp_id=x", "val_interval=0"]
    train_in_process(folder, *TINY, *data_overrides(data), *SHORT[:2], *words)
    return folder / "output" / "x"


@pytest.mark.parametrize("words", [["ema.sigma_rels=[0.1]"], ["ema.update_every=2"], ["ema.sigma_rels=[0.2]", "ema.update_every=2"]])
def test_averages_keep_what_they_began_with(command, data, averaged, words):
    (sentence,) = sentences_of(command, *TINY, *data_overrides(data), *SHORT, "exp_id=x", f"hydra.run.dir={averaged}", *words)
    assert sentence.startswith(f"{averaged}/x_ckpt_last.pth holds averages begun with ema.sigma_rels=[0.1] ema.update_every=2, not ema.")
    assert sentence.endswith(f"start a new run from its weights: exp_id=NEW weights={averaged}/x_ckpt_last.pth")


def test_averages_of_a_checkpoint_from_elsewhere(command, data, averaged, tmp_path):
    words = (*TINY, *data_overrides(data), *SHORT, "exp_id=y")
    (sentence,) = sentences_of(command, *words, f"checkpoint={averaged}/x_ckpt_last.pth")
    assert "holds averages begun with ema.sigma_rels=[0.1]" in sentence
    alone = tmp_path / "alone.pth"  # nothing beside it says how it was trained
    alone.write_bytes((averaged / "x_ckpt_last.pth").read_bytes())
    (sentence,) = sentences_of(command, *words, f"checkpoint={alone}")
    assert sentence.startswith(f"{alone} holds 1 average and ema.sigma_rels is [0.05, 0.1]; want 1 width, or start a new run from")
    assert command(*words, f"checkpoint={alone}", "ema.sigma_rels=[0.1]", "ema.update_every=2", "num_iterations=3") == 0


def test_checkpoints_that_are_all_bad_stop_the_run(command, data, averaged, tmp_path):
    folder = tmp_path / "output" / "x"
    folder.mkdir(parents=True)
    (folder / "x_ckpt_last.pth").write_bytes(b"torn")
    for words in ([], [f"checkpoint={averaged}/x_ckpt_last.pth", "ema.sigma_rels=[0.1]", "ema.update_every=2"]):
        (sentence,) = sentences_of(command, *TINY, *data_overrides(data), *SHORT, "exp_id=x", *words)
        assert sentence.startswith(f"no checkpoint of this run can be used ({Path('output/x/x_ckpt_last.pth')} ")
    assert (folder / "x_ckpt_last.pth").read_bytes() == b"torn"


def test_rows_held_out_count_once(command, data, tmp_path):
    words = (*TINY, *data_overrides(data), *SHORT, "batch_size=12", "num_iterations=1", "data.held.repeat=3", "data.birds.repeat=2")
    assert command(*words, "exp_id=x", "data.val=[held, birds]") == 0
    assert command(*words, "exp_id=y", "data.held.repeat=1", "data.val=[held, birds]") == 0
    first, second = (read_metrics(tmp_path / "output" / name)[0]["valid/loss"] for name in "xy")
    assert first == second


def test_a_run_can_be_listened_to(command, data):
    words = (*TINY, *data_overrides(data), *SHORT, "exp_id=x", "log_extra_interval=2")
    assert command(*words) == 0
    heard = {str(path.relative_to("output/x/previews")) for path in Path("output/x/previews").rglob("*.flac")}
    assert heard == {"real/held-0.flac", "000000000/held-0.flac", "000000002/held-0.flac"}
    assert [line["steps_done"] for line in read_metrics(Path("output/x")) if "generate/latent_distance" in line] == [0, 2]
    assert command(*words, "execute_only=generate") == 0
    assert command(*words, "execute_only=valid") == 0
    assert read_metrics(Path("output/x"))[-1].keys() == {"steps_done", "valid/loss", "valid/binned_loss"}


def test_one_job_at_a_time_in_a_folder(command, data, begun):
    words = (*TINY, *data_overrides(data), *SHORT, "exp_id=x")
    before = {path: path.stat().st_mtime_ns for path in Path("output/x").glob("x_*.pth")}
    with lock_run(Path("output/x"), holds=True):
        (sentence,) = sentences_of(command, *words, "num_iterations=4")
        assert sentence.startswith("another job is training in ")
        assert command(*words, "execute_only=valid") == 0  # which only looks
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert command(*words, "num_iterations=4") == 0


def test_the_same_command_goes_on_whatever_it_began_with(command, data, begun):
    words = (*TINY, *data_overrides(data), *SHORT)
    again = (*words, "exp_id=second", "checkpoint=output/x/x_ckpt_last.pth")
    assert command(*again, "num_iterations=3") == 0
    assert command(*again, "num_iterations=4") == 0
    assert torch.load("output/second/second_ckpt_last.pth", weights_only=True)["it"] == 4
    (sentence,) = sentences_of(command, *words, "exp_id=x", "checkpoint=output/second/second_ckpt_last.pth")
    assert sentence.startswith("output/x holds a run of its own, at 2 iterations, which checkpoint=output/second/")


def test_files_that_only_describe_a_run_do_not_stop_it(command, data, begun):
    words = (*TINY, *data_overrides(data), *SHORT, "exp_id=x")
    Path("output/x/signature.json").write_text("")
    assert command(*words, "num_iterations=3") == 0
    Path("output/x/x_ckpt_last.pth.json").write_text("{")
    assert command(*words, "num_iterations=4") == 0
    assert torch.load("output/x/x_ckpt_last.pth", weights_only=True)["it"] == 4


def test_damage_within_a_checkpoint_is_found(command, data, capsys):
    words = (*TINY, *data_overrides(data), *SHORT, "exp_id=x")
    assert command(*words, "save_checkpoint_interval=1") == 0
    path = Path("output/x/x_ckpt_last.pth")
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 4000)
    content[middle] = bytes(value ^ 0x55 for value in content[middle])
    path.write_bytes(content)
    capsys.readouterr()
    assert command(*words, "num_iterations=3") == 0
    said = capsys.readouterr().out
    assert "x_ckpt_last.pth is damaged: the checksum of its part" in said
    assert "after 1 iterations" in said


def test_a_place_where_nothing_can_be_written(command, data):
    Path("output").write_text("")
    (sentence,) = sentences_of(command, *TINY, *data_overrides(data), "exp_id=x")
    assert sentence.startswith("nothing can be written to output/x: output is a file")


def test_another_task_is_chosen_by_the_command_line(command):
    config = str(ROOT / "tests" / "trainer" / "config")
    words = ("--config-dir", config, "solver=line", "exp_id=line", "device=cpu", "batch_size=4", "num_iterations=30", "learning_rate=0.1")
    assert command(*words, "linear_warmup_steps=0", "solver.options.slope=5", "ema.enable=False") == 0
    weights = torch.load("output/line/line_last.pth", weights_only=True)
    assert weights["weight"].item() > 2
    (sentence,) = sentences_of(command, *words, "solver.target=no.such.Task")
    assert sentence.startswith("solver.target is 'no.such.Task', which cannot be imported")


def test_keys_without_effect_are_told(command, data, capsys):
    assert command(*TINY, *data_overrides(data), *SHORT, "exp_id=x", "pin_memory=True", "data.held.fps=8", "enable_email=False") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert [note.split()[1] for note in notes] == ["pin_memory", "data.held.fps"]
    assert all("has no effect in this version" in note for note in notes)


@pytest.mark.parametrize("words", [["exp_id="], ["exp_id=a/b"], ["weights=${nothing}"]])
def test_a_run_without_a_name_is_told_without_traceback(run_script, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    ended = run_script("train.py", *words, "device=cpu")
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_missing_stores_are_one_sentence(command):
    (sentence,) = mistakes_of(command, "exp_id=exp_1", "model=small_16k", "device=cpu")
    assert sentence.startswith("missing stores: ExtractedVGG (../data/v1-16-memmap/vgg-train), AudioCaps (")
    assert "ExtractedVGG_val" in sentence
    assert "`torchrun --standalone training/extract_video_training_latents.py --device cpu`" in sentence
    assert "extract_audio_training_latents.py" in sentence
    (sentence,) = mistakes_of(command, "example_train=True", "device=cpu", "backend=lite", "model=nano_44k")
    assert "Example_video (" in sentence
    assert "--mode 44k --backend lite --device cpu" in sentence


def test_all_mistakes_at_once(command, data):
    words = (*TINY, *data_overrides(data), "model=nano_44k", "batch_size=11", "backend=pretrained", "weights=gone.pth", "batchsize=3")
    text = "\n".join(mistakes_of(command, *words, "sampling.method=eul", "enable_email=True", "data_dim.clip_dim=3"))
    for part in (
        "unknown setting batchsize (did you mean 'batch_size'?)",
        "sampling.method is 'eul' (did you mean 'euler'?)",
        "data_dim.clip_dim is 3; the encoders of both backends give 1024",
        "enable_email is True, but this system sends no mail",
        "no file at gone.pth",
        "holds 16k latents (32 x 20, 1.0 s) but model nano_44k wants",
        "was made by backend lite but this run uses pretrained",
        "batch_size is 11 and the stores hold 10 rows",
    ):
        assert part in text


def test_null_text_has_to_come_from_somewhere(command, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_tiny_store(folder, "owls", "video", 4, layout="published")
    (folder / "owls.empty_string.pth").unlink()  # as in a store of the published system
    words = (*TINY, f"data.owls.tsv={folder}/owls.tsv", f"data.owls.memmap_dir={folder}/owls", "data.train=[owls]", "data.val=[]")
    (sentence,) = mistakes_of(command, *words)
    assert sentence.startswith("no store of data.train (owls) holds the text feature of the empty string;")


def test_weights_of_another_model_are_refused(command, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "other.pth"
    torch.save({"w": torch.zeros(1)}, path)
    (sentence,) = mistakes_of(command, *TINY, *data_overrides(data), f"weights={path}")
    assert sentence.startswith("these weights are not of nano_16k: ")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_batch_must_divide_among_the_processes(command, data, monkeypatch, rank):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert mistakes_of(command, *TINY, *data_overrides(data)) == ["batch_size is 4; want a multiple of the 3 processes"]


def test_a_number_that_is_none_is_told_without_traceback(command, data, capsys):
    assert command(*TINY, *data_overrides(data), "num_iterations=3", "learning_rate=1e30", "exp_id=x", "validate_first=False") == 1
    said = capsys.readouterr()
    assert "the loss of iteration 1 is not finite; rows: " in said.out
    assert "Traceback" not in said.err
    assert not list(Path("output/x").glob("*.pth"))


def test_showing_the_configuration_needs_no_data(command, capsys):
    assert command("--cfg", "job", "exp_id=00008004") == 0
    assert OmegaConf.create(capsys.readouterr().out).exp_id == "00008004"
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_two_processes_train_as_one_does(command, data, tmp_path):
    words = (*TINY, *data_overrides(data), "num_iterations=4", "log_text_interval=1", "val_interval=2", "learning_rate=1e-3")
    words += ("freeze=['joint_blocks.0.*']",)
    assert command(*words, "exp_id=one") == 0
    result = torchrun(ROOT / "train.py", *words, "exp_id=two", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    one, two = (read_metrics(tmp_path / "output" / name) for name in ("one", "two"))
    assert len(one) == len(two) == 7
    for alone, together in zip(one, two, strict=True):
        for name in alone.keys() & {"train/loss", "train/grad_norm", "valid/loss"}:
            assert together[name] == pytest.approx(alone[name], rel=1e-5), (name, alone["steps_done"])
    assert len(list((tmp_path / "output" / "two").glob("train-*-hydra"))) == 1
    alone, together = (torch.load(tmp_path / f"output/{name}/{name}_last.pth", weights_only=True) for name in ("one", "two"))
    for name, tensor in alone.items():  # null features are used outside the network's forward: their gradients, too, are averaged
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert [name for name in alone if name.startswith("joint_blocks.0.") and not torch.equal(alone[name], together[name])] == []


@pytest.mark.slow
def test_two_processes_tell_a_mistake_once(tmp_path):
    result = torchrun(ROOT / "train.py", "batchsize=3", "device=cpu", cwd=tmp_path)
    assert result.returncode != 0
    assert result.stderr.count("unknown setting batchsize (did you mean 'batch_size'?)") == 1
    assert result.stderr.count("missing stores") == 1
    assert "exitcode  : 2" in result.stderr
    assert 'Traceback (most recent call last):\n  File "' + str(ROOT / "train.py") not in result.stderr
    assert not (tmp_path / "output").exists()
