"""Training, what is made of a run, and scores, with somebody else's file or folder under each name they write.

A folder that no run of ours has is refused before anything is written; in a run's own folder, what is not the run's gets another name.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import train
from mmaudio.base.errors import UserError
from mmaudio.checkpoints.ema_snapshots import (
    SnapshotOwner,
    check_owner,
    claim_snapshots,
    list_snapshots,
    retire_snapshots,
    save_snapshot,
    synthesize,
    thin_snapshots,
)
from mmaudio.checkpoints.load import load_checkpoint
from mmaudio.checkpoints.run_files import record_beside
from mmaudio.trainer.checks import check_run_folder
from mmaudio.trainer.tracker import read_metrics
from tests.commands.test_evaluate_command import write as write_sounds
from tests.conftest import own_handlers
from tests.test_ownership_of_data import NOT_OURS, put, snapshot
from tests.trainer.tiny_stores import TINY, data_overrides, tiny_settings, write_tiny_data

THEIRS = "years of work"
SHORT = ("num_iterations=2", "log_text_interval=1", "validate_first=False", "data.val=[]", "ema.checkpoint_every=1", "ema.sigma_rels=[0.1]")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def training(data, monkeypatch, tmp_path):
    """Run train.py with these words in an empty folder, in this process; its exit code."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *data_overrides(data), *SHORT, *words])
        try:
            return train.main(sys.argv[1:])
        except SystemExit as leave:
            return int(leave.code or 0)

    with own_handlers():
        yield call


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A folder in which train.py has made the run output/x: two iterations, each with a snapshot."""
    folder = tmp_path_factory.mktemp("trained")
    with own_handlers(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py", *TINY, *data_overrides(data), *SHORT, "exp_id=x"])
        assert train.main(sys.argv[1:]) == 0
    return folder / "output"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it in the current folder."""
    shutil.copytree(trained, tmp_path / "output")
    return tmp_path / "output" / "x"


def sentences_of(training, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        training(*words)
    return "\n".join(caught.value.sentences)


def found_in(folder: Path) -> list[str]:
    """The files of a folder that hold what is not ours."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in files if THEIRS.encode() in path.read_bytes()]


# ---- the folder

RUN_NAMES = (
    *("config.yaml", "train.log", "metrics.jsonl", "signature.json", "requeue", "previews", "ema_ckpts", "events.out.tfevents.1.a.1.0"),
    *(f"x_{ending}.pth{end}" for ending in ("last", "shadow", "best", "ema_final") for end in ("", ".json")),
    *("x_ckpt_last.pth", "x_ckpt_shadow.pth", "x_ckpt_1.pth", "x_ckpt_last.pth.json"),
)


def test_a_folder_of_somebody_else_is_refused(training, data, tmp_path):
    settings = tiny_settings(data, "x")
    for name in RUN_NAMES:
        for what in ("file", "folder", "link"):
            folder = tmp_path / "output" / "x"
            put(folder / name, what)
            before = snapshot(tmp_path)
            is_checkpoint = name in ("x_ckpt_last.pth", "x_ckpt_shadow.pth", "x_ckpt_1.pth") and what != "folder"
            if not is_checkpoint:  # these are read, and refused for what they are not
                with pytest.raises(UserError, match=f"{folder} {NOT_OURS}.* training would write to what it holds"):
                    check_run_folder(settings, folder)
            if what == "file" and (is_checkpoint or name in ("config.yaml", "x_last.pth")):
                for words in ((), ("execute_only=train",)):
                    said = sentences_of(training, "exp_id=x", *words)
                    assert (f"mv {Path('output/x')}" in said) or "no checkpoint of this run can be used" in said, (name, said)
            assert snapshot(tmp_path) == before, name
            shutil.rmtree(folder)
    put(tmp_path / "output" / "x" / "notes.txt", "file")
    check_run_folder(settings, tmp_path / "output" / "x")


@pytest.mark.slow
def test_other_files_in_a_folder_are_no_matter(training, tmp_path):
    put(tmp_path / "output" / "x" / "notes.txt", "file")
    for num in (2, 3):
        assert training("exp_id=x", f"num_iterations={num}") == 0
    assert found_in(tmp_path / "output" / "x") == ["notes.txt"]
    assert load_checkpoint(tmp_path / "output" / "x" / "x_ckpt_last.pth").steps_done == 3


@pytest.mark.slow
def test_in_its_own_folder_a_run_gives_others_another_name(training, run):
    names = ("config.yaml", "metrics.jsonl", "signature.json", "requeue", "x_last.pth", "x_shadow.pth", "x_ema_final.pth.json")
    for name in names:
        (run / name).unlink(missing_ok=True)
        put(run / name, "file")
    record_beside(run / "x_last.pth").unlink()
    for snapshots in ("ema_ckpts/0.3.pt", "ema_ckpts/0.9.pt"):
        put(run / snapshots, "file")
    assert training("exp_id=x", "num_iterations=4", "ema.max_snapshots_gb=0.02") == 0
    kept = ["config.yaml.aside", "ema_ckpts/0.3.pt.aside", "ema_ckpts/0.9.pt", "metrics.jsonl.aside", "requeue", "signature.json.aside"]
    assert found_in(run) == [*kept, "x_ema_final.pth.aside.json", "x_last.pth.aside", "x_shadow.pth.aside"]
    assert load_checkpoint(run / "x_ckpt_last.pth").steps_done == 4
    assert [snapshot.n for snapshot in list_snapshots(run / "ema_ckpts")] == [2, 4], "within the budget, and 9 is not the run's"
    assert [line["steps_done"] for line in read_metrics(run)] == [3, 4]


@pytest.mark.slow
def test_a_run_of_the_version_before_goes_on(training, run):
    content = json.loads((run / "signature.json").read_text())
    content.pop("mark")
    (run / "signature.json").write_text(json.dumps(content))
    (run / "ema_ckpts" / "snapshots.json").unlink()
    shutil.copytree(run, run.parent / "y")
    (run.parent / "y" / "config.yaml").write_text((run / "config.yaml").read_text())
    assert training("exp_id=x", "num_iterations=3") == 0
    assert [snapshot.n for snapshot in list_snapshots(run / "ema_ckpts")] == [1, 2, 3]
    assert "output/y holds the run 'x', not 'y'" in sentences_of(training, "exp_id=y")


@pytest.mark.slow
def test_a_published_folder_goes_on_and_keeps_its_files(training, run):
    for path in run.iterdir():
        if path.name not in ("x_ckpt_last.pth", "x_last.pth", "ema_ckpts") and not path.name.startswith("events"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    (run / "ema_ckpts" / "snapshots.json").unlink()
    theirs = {name: (run / name).read_bytes() for name in ("x_ckpt_last.pth", "x_last.pth")}
    for num in (3, 4):
        assert training("exp_id=x", f"num_iterations={num}", "keep_checkpoints=1") == 0
    assert (run / "x_ckpt_2.pth").read_bytes() == theirs["x_ckpt_last.pth"]
    assert (run / "x_last.pth.aside").read_bytes() == theirs["x_last.pth"]
    assert [snapshot.n for snapshot in list_snapshots(run / "ema_ckpts")] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run", "output", "ema"])
def test_training_through_links_twice(training, tmp_path, what):
    real, words = tmp_path / "real", []
    real.mkdir()
    if what == "output":
        (tmp_path / "output").symlink_to(real)
    elif what == "run":
        (tmp_path / "output").mkdir()
        (tmp_path / "output" / "x").symlink_to(real)
    else:
        (tmp_path / "averages").symlink_to(real)
        words = ["ema.checkpoint_folder=averages"]
    for num in (2, 3):
        assert training("exp_id=x", f"num_iterations={num}", *words) == 0
    assert load_checkpoint(tmp_path / "output" / "x" / "x_ckpt_last.pth").steps_done == 3
    link = {"output": "output", "run": "output/x", "ema": "averages"}[what]
    assert (tmp_path / link).is_symlink() and list(real.iterdir())
    (tmp_path / "output" / "z").symlink_to(tmp_path / "gone")
    assert "is a link to" in sentences_of(training, "exp_id=z")


# ---- averages


def some_average(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((2,), value)}


def test_a_folder_of_snapshots_belongs_to_one_run(tmp_path):
    run, folder = SnapshotOwner("a", "1", is_at_home=False), tmp_path / "shared"
    claim_snapshots(folder, run)
    for n in (1, 2):
        save_snapshot(folder, 0, some_average(n), n)
    for owner, said in ((SnapshotOwner("b", "2"), "of the run 'a'"), (SnapshotOwner("a", "2", is_at_home=False), "another run called 'a'")):
        before = snapshot(tmp_path)
        for step in (check_owner, claim_snapshots):
            with pytest.raises(UserError, match=said):
                step(folder, owner)
        assert snapshot(tmp_path) == before
    claim_snapshots(folder, run)
    claim_snapshots(folder, SnapshotOwner("a", "3"))  # the run's own folder, which its owner moved
    for name in ("0.3.pt", "0.4.pt", "stale/0.4.pt"):
        put(folder / name, "file")
    shutil.copy(folder / "0.1.pt", folder / "0.2.pt")  # somebody put another one there
    assert [each.n for each in list_snapshots(folder)] == [1]
    save_snapshot(folder, 0, some_average(3), 3)
    save_snapshot(folder, 0, some_average(3), 3)
    thin_snapshots(folder, 1e-9)
    assert [each.n for each in list_snapshots(folder)] == [3]
    retire_snapshots(folder, 2)
    assert list_snapshots(folder) == []
    assert sorted(path.name for path in folder.glob("*.pt*")) == ["0.2.pt", "0.3.pt.aside", "0.4.pt"]
    assert found_in(folder) == ["0.3.pt.aside", "0.4.pt", "stale/0.4.pt"]


def test_snapshots_of_the_version_before_are_taken_by_the_run_whose_folder_it_is(tmp_path):
    save_snapshot(tmp_path, 0, some_average(1), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.1.pt"]
    claim_snapshots(tmp_path, SnapshotOwner("a"))
    assert [each.n for each in list_snapshots(tmp_path)] == [1]
    (tmp_path / "link").symlink_to(tmp_path)
    claim_snapshots(tmp_path / "link", SnapshotOwner("a"))


@pytest.mark.slow
def test_two_runs_do_not_share_a_folder_of_snapshots(training, tmp_path, monkeypatch):
    shared = (f"ema.checkpoint_folder={tmp_path}/shared",)
    assert training("exp_id=a", *shared) == 0
    before = snapshot(tmp_path)
    said = sentences_of(training, "exp_id=b", *shared)
    assert f"{tmp_path}/shared holds the EMA snapshots of the run 'a'; name another ema.checkpoint_folder" in said
    assert snapshot(tmp_path) == before
    (tmp_path / "elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "elsewhere")
        assert "another run called 'a', in another folder" in sentences_of(training, "exp_id=a", *shared)
    assert training("exp_id=b") == 0
    assert training("exp_id=a", "num_iterations=3", *shared) == 0
    assert [snapshot.n for snapshot in list_snapshots(tmp_path / "shared")] == [1, 2, 3]
    newest = torch.load(tmp_path / "output" / "a" / "a_ckpt_last.pth", weights_only=True)["ema"]
    average = synthesize(tmp_path / "shared", (0.1,), 0.1)
    assert all(torch.equal(tensor, newest[f"ema_models.0.ema_model.{name}"]) for name, tensor in average.items())


@pytest.mark.slow
def test_snapshots_of_nobody_knows_whom(training, run, tmp_path):
    shared = f"ema.checkpoint_folder={tmp_path}/shared"
    shutil.move(run / "ema_ckpts", tmp_path / "shared")
    assert "EMA snapshots of another run called 'x'" not in sentences_of(training, "exp_id=y", shared)
    (tmp_path / "shared" / "snapshots.json").unlink()
    before = snapshot(tmp_path / "shared")
    for exp_id in ("x", "y"):
        said = sentences_of(training, f"exp_id={exp_id}", "num_iterations=3", shared)
        assert f"{tmp_path}/shared {NOT_OURS}" in said and "its EMA snapshots ('0.1.pt', '0.2.pt') may be another run's" in said
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("checkpoint_folder: null", f"checkpoint_folder: {tmp_path}/shared"))
    assert snapshot(tmp_path / "shared") == before
    assert training("exp_id=x", "num_iterations=3", shared) == 0, "its settings say that they are its own"
    assert [snapshot.n for snapshot in list_snapshots(tmp_path / "shared")] == [1, 2, 3]
    put(tmp_path / "others" / "snapshots.json", "file")
    assert f"{tmp_path}/others/snapshots.json {NOT_OURS}" in sentences_of(training, "exp_id=y", f"ema.checkpoint_folder={tmp_path}/others")


# ---- what is made of a run


def refused(run_command, folder: Path, path: Path, *words: object, what: str = "file") -> None:
    """A command that is refused because of somebody else's file at `path`, and changes nothing; without it, it works, twice."""
    put(path, what)
    before = snapshot(folder)
    ended = run_command(*words)
    assert (ended.code, f"{path} {NOT_OURS}" in ended.err) == (2, True), ended.err
    assert snapshot(folder) == before
    shutil.rmtree(path) if what == "folder" else path.unlink()
    for _ in range(2):
        ended = run_command(*words)
        assert ended.code == 0, ended.err


@pytest.mark.slow
def test_averages_of_a_run(training, run, run_command, data):
    assert training("exp_id=x", "num_iterations=3", "data.val=[held]") == 0
    sweep = ("ema", "sweep", run, "--sigmas", "0.1", "--device", "cpu")
    Image.new("RGB", (2, 2)).save(run / "picture.png")
    shutil.copy(run / "picture.png", run / "ema_sweep.png")
    ended = run_command(*sweep)
    assert (ended.code, f"{run}/ema_sweep.png {NOT_OURS}" in ended.err) == (2, True)
    assert (run / "ema_sweep.png").read_bytes() == (run / "picture.png").read_bytes()
    (run / "ema_sweep.png").unlink()
    refused(run_command, run, run / "ema_sweep.json", *sweep)
    for name in ("x_ema_sigma0.1.pth", "x_ema_sigma0.1.pth.json"):
        refused(run_command, run, run / name, "ema", "synthesize", run, "--sigma", 0.1)
        for path in run.glob("x_ema_sigma*"):
            path.unlink()
    (run.parent / "w.pth.json").write_text(THEIRS)
    ended = run_command("ema", "synthesize", run, "--sigma", 0.1, "--output", run.parent / "w.pth")
    assert (ended.code, "w.pth.json was not" in ended.err, (run.parent / "w.pth.json").read_text()) == (2, True, THEIRS)


def test_exports(run, run_command, tmp_path):
    words = ("weights", "export", run, "--format", "pth", "--output", tmp_path / "e.pth")
    put(tmp_path / "e.pth.json", "file")
    ended = run_command(*words)
    assert (ended.code, f"{tmp_path}/e.pth.json {NOT_OURS}" in ended.err) == (2, True)
    put(tmp_path / "e.pth", "file")
    assert run_command(*words).code == 2
    for _ in range(2):
        assert run_command(*words, "--overwrite").code == 0
    assert found_in(tmp_path) == ["e.pth.aside", "e.pth.json.aside"]
    put(tmp_path / "e.safetensors", "file")
    for _ in range(2):
        assert run_command("weights", "export", run, "--output", tmp_path / "e.safetensors", "--overwrite").code == 0
    assert found_in(tmp_path) == ["e.pth.aside", "e.pth.json.aside", "e.safetensors.aside"]


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_scores(run_command, tmp_path, what):
    real, made = write_sounds(tmp_path / "real", "ab"), write_sounds(tmp_path / "made", "ab")
    words = ("evaluate", "--generated", made, "--reference", real)
    refused(run_command, tmp_path, made / "scores.json", *words, what=what)
    refused(run_command, tmp_path, tmp_path / "out.json", *words, "--output", tmp_path / "out.json", what=what)
    compare = ("evaluate", "compare", tmp_path / "out.json", made / "scores.json", "--output", tmp_path / "both.json")
    refused(run_command, tmp_path, tmp_path / "both.json", *compare, what=what)
    other = write_sounds(tmp_path / "other", "ab")
    ended = run_command("evaluate", "--generated", other, "--reference", real, "--output", tmp_path / "out.json")
    assert ended.code == 0, "of another folder, at the place that the user names"
    (other / "scores.json").write_bytes((made / "scores.json").read_bytes())
    assert run_command("evaluate", "--generated", other, "--reference", real).code == 2, "its mark does not fit the place"
    for path in ("real", "both.json"):
        os.symlink(tmp_path / path, tmp_path / f"{path}-link")
    for _ in range(2):
        assert run_command(*compare[:-1], tmp_path / "both.json-link").code == 2
