"""Checkpoints: names, rotation, what survives a kill, what is refused."""

import contextlib
import inspect
import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.checkpoints import save as saving
from mmaudio.checkpoints.load import foreign_record, load_checkpoint, load_weights, newest_checkpoint, read_record
from mmaudio.checkpoints.run_files import RunFiles, RunState, WeightsRecord, record_beside
from mmaudio.checkpoints.save import save_checkpoint, save_file, save_weights
from mmaudio.files.checksums import DamagedFileError
from mmaudio.settings.schema import LONGEST_OF_A_RUN


def record(step: int, exp_id: str = "last_try") -> WeightsRecord:
    return WeightsRecord("nano_16k", "16k", 8.0, "lite", step, exp_id)


def state(step: int, value: float = 1.0) -> RunState:
    weights = {"w": torch.full((3,), value), "n": torch.tensor(2)}
    return RunState(step, weights, {"state": {}, "param_groups": []}, {"last_epoch": step}, None)


@pytest.fixture
def files(tmp_path) -> RunFiles:
    return RunFiles(tmp_path, "last_try")


def test_names_and_rotation(files):
    for step in (1, 2, 3):
        save_checkpoint(files, state(step), record(step))
        save_weights(files, state(step).weights, record(step))
    save_checkpoint(files, state(3), record(3), copy=True)
    save_weights(files, state(3).weights, record(3), copy=True)
    names = {path.name for path in files.folder.iterdir()}
    stems = ("ckpt_last", "ckpt_shadow", "ckpt_3", "last", "shadow", "3")
    assert names == {f"last_try_{stem}.pth{end}" for stem in stems for end in ("", ".json")}
    assert load_checkpoint(files.checkpoint_shadow).steps_done == 2
    assert read_record(files.weights_shadow) == record(2)
    assert set(torch.load(files.checkpoint_last, weights_only=True)) == {"it", "weights", "optimizer", "scheduler", "ema", "extra"}


def test_the_same_content_makes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_file(tmp_path / f"{name}.pth", {"x": torch.ones(3)}, record(1))
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_the_newest_wins(files):
    assert newest_checkpoint(files) is None
    save_checkpoint(files, state(5), record(5))
    save_checkpoint(files, state(9), record(9), copy=True)
    save_checkpoint(RunFiles(files.folder, "last_try_2"), state(50), record(50))  # another run's
    found = newest_checkpoint(files)
    assert (found.path, found.state.steps_done, found.skipped) == (files.checkpoint_copy(9), 9, ())


@pytest.mark.parametrize("harm", ["torn", "empty", "text", "zeros", "other content", "not finite", "gone"])
def test_a_bad_last_one_gives_way_to_the_shadow(files, harm):
    save_checkpoint(files, state(1), record(1))
    save_checkpoint(files, state(2, float("nan") if harm == "not finite" else 1.0), record(2))
    path = files.checkpoint_last
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "other content":
        torch.save({"it": 3}, path)
    elif harm != "not finite":
        path.write_bytes({"torn": content[: len(content) // 2], "empty": b"", "text": b"hello", "zeros": bytes(len(content))}[harm])
    found = newest_checkpoint(files)
    assert (found.path, found.state.steps_done) == (files.checkpoint_shadow, 1)
    assert [sentence.split()[0] for sentence in found.skipped] == ([] if harm == "gone" else [str(path)])


def test_a_checkpoint_torn_anywhere_gives_way(files):
    save_checkpoint(files, state(1), record(1))
    save_checkpoint(files, state(2), record(2))
    content = files.checkpoint_last.read_bytes()
    for length in range(0, len(content), 97):
        files.checkpoint_last.write_bytes(content[:length])
        assert newest_checkpoint(files).state.steps_done == 1


def test_nothing_usable_is_no_new_start(files):
    save_checkpoint(files, state(1, float("nan")), record(1))
    save_checkpoint(files, state(2), record(2))
    files.checkpoint_last.write_bytes(b"")
    sentence = r"no checkpoint of this run can be used \(.*_ckpt_last\.pth .*_ckpt_shadow\.pth .*not finite\); move"
    with pytest.raises(UserError, match=sentence) as caught:
        newest_checkpoint(files)
    assert len(caught.value.sentences) == 1


def test_what_is_no_damage_is_never_skipped(files, monkeypatch):
    save_checkpoint(files, state(1), record(1))
    save_checkpoint(files, state(2), record(2))
    path = record_beside(files.checkpoint_last)
    whole = path.read_text()
    path.write_text(whole.replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(UserError, match="format version 99"):
        newest_checkpoint(files)
    path.write_text(whole[:20])
    newest = newest_checkpoint(files)
    assert newest.path == files.checkpoint_shadow
    assert "is no readable record" in newest.skipped[0]
    path.write_text(whole)

    def broken_disk(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch, "load", broken_disk)
    with pytest.raises(UserError, match=r"_ckpt_last\.pth cannot be read: Input/output error"):
        newest_checkpoint(files)


def kill_after_renames(monkeypatch, most: int) -> None:
    """After so many renames the next one ends the process."""
    count, replace = 0, os.replace

    def killed(*paths):
        nonlocal count
        count += 1
        if count > most:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(saving.os, "replace", killed)


@pytest.mark.parametrize("call", range(6))
def test_a_kill_at_any_rename_leaves_a_checkpoint_with_its_record(files, monkeypatch, call):
    save_checkpoint(files, state(1), record(1))
    kill_after_renames(monkeypatch, call)
    if call < 4:  # the shadow's record, the shadow, the new record, the new file
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(files, state(2), record(2))
    else:
        save_checkpoint(files, state(2), record(2))
    assert newest_checkpoint(files).state.steps_done == (2 if call > 3 else 1)
    assert all(read_record(path).variant == "nano_16k" for path in files.folder.glob("*.pth"))


def test_files_of_others_get_names_of_their_own(files, caplog):
    """Of the published system, of another run, and what is no checkpoint at all: under every name that is written."""
    torch.save(state(3).entries(), files.checkpoint_last)
    save_file(files.checkpoint_shadow, state(2).entries(), record(2, "another"))
    files.weights_last.write_text("mine")
    files.weights_shadow.mkdir()
    record_beside(files.weights_last).write_text("my notes")
    published = files.checkpoint_last.read_bytes()
    for step in (4, 5, 6):
        save_checkpoint(files, state(step), record(step), keep=1 + step % 2)
        save_weights(files, state(step).weights, record(step))
    assert files.checkpoint_copy(3).read_bytes() == published and read_record(files.checkpoint_copy(3)) is None
    assert read_record(files.checkpoint_copy(2)).exp_id == "another"
    assert (files.folder / "last_try_last.pth.aside").read_text() == "mine"
    assert (files.folder / "last_try_last.pth.aside.json").read_text() == "my notes"
    assert (files.folder / "last_try_shadow.pth.aside").is_dir()
    assert caplog.text.count("was not made by this program") == 4
    assert kept(files) == {"last": 6, "2": 2, "3": 3}
    assert read_record(files.weights_shadow).step == 5


@pytest.mark.parametrize("linked", [["last"], ["shadow"], ["last", "shadow"]])
def test_links_stay_links_and_every_file_is_kept(files, linked):
    save_steps(files, 1, 2)
    elsewhere = files.folder / "elsewhere"
    elsewhere.mkdir()
    for name in linked:
        path = files.folder / f"last_try_ckpt_{name}.pth"
        path.rename(elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    for step in (3, 4, 5):
        save_steps(files, step)
        assert kept(files) == {"last": step, "shadow": step - 1}
    assert all((files.folder / f"last_try_ckpt_{name}.pth").is_symlink() for name in linked)
    assert len(list(elsewhere.iterdir())) == (1 if linked == ["shadow"] else 2)


def test_the_schedulers_count_is_the_reliable_one(files):
    published = state(7).entries() | {"it": 6}  # periodic saves of the published system name the iteration just finished
    torch.save(published, files.checkpoint_last)
    assert load_checkpoint(files.checkpoint_last).steps_done == 7


def test_weights_of_a_file_or_of_a_checkpoint(files, tmp_path):
    save_checkpoint(files, state(4), record(4))
    save_weights(files, state(4).weights, record(4))
    for path in (files.checkpoint_last, files.weights_last):
        assert torch.equal(load_weights(path)["w"], torch.ones(3))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no weights"):
        load_weights(tmp_path / "list.pth")
    with pytest.raises(UserError, match="is no training checkpoint: it has no it, weights"):
        load_checkpoint(files.weights_last)
    with pytest.raises(UserError, match="no file at"):
        load_weights(tmp_path / "nothing.pth")


def test_files_that_would_run_code_are_refused(tmp_path):
    torch.save({"w": os.system}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="no readable weights file"):
        load_weights(tmp_path / "evil.pth")


def test_another_format_version_is_refused(files):
    save_checkpoint(files, state(1), record(1))
    path = record_beside(files.checkpoint_last)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(UserError, match="format version 99; this mmaudio reads 1"):
        load_checkpoint(files.checkpoint_last)


def kept(files) -> dict[str, int]:
    """What of its checkpoints a run has: the part of the name after `ckpt_`, and its steps."""
    start = f"{files.exp_id}_ckpt_"
    return {path.stem.removeprefix(start): load_checkpoint(path).steps_done for path in files.checkpoints()}


def save_steps(files, *steps, **words) -> None:
    for step in steps:
        save_checkpoint(files, state(step), record(step), **words)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (1, {"last": 6}),
        (2, {"last": 6, "shadow": 5}),
        (3, {"last": 6, "shadow": 5, "4": 4}),
        (5, {"last": 6, "shadow": 5, "4": 4, "3": 3, "2": 2}),
    ],
)
def test_the_last_good_ones_are_kept(files, keep, left):
    save_steps(files, 1, 2, 3, 4, 5, 6, keep=keep)
    assert kept(files) == left
    assert len(list(files.folder.iterdir())) == 2 * len(left)  # each has its record
    assert {read_record(path).step for path in files.checkpoints()} == set(left.values())


def test_fewer_are_kept_from_now_on(files):
    save_steps(files, 8, 9, 10, 11, 12, keep=5)
    save_steps(files, 13, keep=3)
    assert kept(files) == {"last": 13, "shadow": 12, "11": 11}
    save_steps(files, 14, keep=2)
    assert kept(files) == {"last": 14, "shadow": 13}
    save_steps(files, 15, keep=1)
    assert kept(files) == {"last": 15}


def test_copies_and_files_of_others_are_never_removed(files):
    torch.save(state(1).entries(), files.checkpoint_copy(1))  # as the published system writes it
    for step in range(2, 9):
        save_steps(files, step, keep=3, never_remove=(4, 5))
        if step == 4:
            save_steps(files, step, copy=True)
    assert kept(files) == {"last": 8, "shadow": 7, "1": 1, "4": 4, "5": 5, "6": 6}
    save_steps(files, 9, keep=1)
    assert kept(files) == {"last": 9, "1": 1, "4": 4, "5": 5}


def test_a_shadow_without_record_gets_its_name_from_what_it_holds(files):
    torch.save(state(1).entries(), files.checkpoint_last)
    save_steps(files, 2, 3, 4, 5, keep=3)
    assert kept(files) == {"last": 5, "shadow": 4, "1": 1, "3": 3}
    assert read_record(files.checkpoint_copy(1)) is None


def test_a_torn_shadow_is_no_one_to_keep(files):
    save_steps(files, 1, 2, keep=3)
    files.checkpoint_shadow.write_bytes(b"torn")
    save_steps(files, 3, keep=3)
    assert kept(files) == {"last": 3, "shadow": 2}


@pytest.mark.parametrize("call", range(8))
def test_a_kill_at_any_rename_keeps_every_older_one_of_three(files, monkeypatch, call):
    save_steps(files, 1, 2, keep=3)
    kill_after_renames(monkeypatch, call)
    if call < 6:
        with pytest.raises(KeyboardInterrupt):
            save_steps(files, 3, keep=3)
    else:
        save_steps(files, 3, keep=3)
    assert set(kept(files).values()) == ({1, 2} if call < 6 else {1, 2, 3})
    assert all(read_record(path).variant == "nano_16k" for path in files.checkpoints())


@pytest.mark.parametrize("harm", ["optimizer moments", "averages"])
def test_moments_and_averages_that_are_not_finite_give_way(files, harm):
    save_steps(files, 1)
    bad = {"exp_avg": torch.tensor([1.0, float("inf")]), "step": torch.tensor(1.0)}
    entries = state(2).entries() | (
        {"optimizer": {"state": {0: bad}, "param_groups": []}} if "opt" in harm else {"ema": {"a": bad["exp_avg"]}}
    )
    save_checkpoint(files, RunState(2, *(entries[name] for name in ("weights", "optimizer", "scheduler", "ema"))), record(2))
    found = newest_checkpoint(files)
    assert found.state.steps_done == 1
    assert found.skipped == (f"{files.checkpoint_last} holds {harm} that are not finite",)


def put(path, content) -> None:
    torch.save(content, path)  # as another program writes it, over what was there


def test_a_record_says_which_file_it_was_written_for(files, caplog):
    for step in (1, 2):
        save_weights(files, state(step).weights, record(step))
        save_checkpoint(files, state(step), record(step))
    paths = (files.weights_last, files.weights_shadow, files.checkpoint_last, files.checkpoint_shadow)
    assert [foreign_record(path) for path in paths] == [None] * 4
    put(files.weights_last, state(3, 3.0).weights)
    beside = record_beside(files.weights_last)
    sentence = f"{beside} was not written for the last_try_last.pth that is there now: one of the two was replaced; put the right one back"
    with pytest.raises(UserError) as caught:
        load_weights(files.weights_last)
    assert not isinstance(caught.value, DamagedFileError)
    assert caught.value.sentences[0].startswith(sentence)
    save_weights(files, state(4).weights, record(4))
    assert foreign_record(files.weights_last) is None
    assert foreign_record(files.weights_shadow) is not None  # moved with its file, and no truer there
    content = json.loads(beside.read_text())
    del content["checksums"]  # as version 0.1.0 writes it
    beside.write_text(json.dumps(content))
    put(files.weights_last, state(3, 3.0).weights)
    assert load_weights(files.weights_last)["w"][0] == 3


def test_a_checkpoint_of_another_step_is_gone_on_with_and_that_is_said(files, caplog):
    save_checkpoint(files, state(1), record(1))
    put(files.checkpoint_last, state(3).entries())
    for _ in range(2):
        assert newest_checkpoint(files).state.steps_done == 3
    assert [line.message.split(":")[0] for line in caplog.records] == [
        f"{record_beside(files.checkpoint_last)} was not written for the {files.checkpoint_last.name} that is there now"
    ]


def test_damage_is_told_before_what_it_makes_of_the_record(files):
    save_weights(files, state(1).weights, record(1))
    content = bytearray(files.weights_last.read_bytes())
    content[content.rindex(b"archive/data/0") - 30] ^= 1  # the checksum that the directory has of a tensor
    files.weights_last.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"last_try_last\.pth is damaged: the checksum of its part archive/data/0 is wrong"):
        load_weights(files.weights_last)


@pytest.mark.parametrize("keep", [2, 3])
@pytest.mark.parametrize("call", range(7))
def test_a_kill_at_any_rename_leaves_no_file_with_anothers_record(files, monkeypatch, call, keep):
    for step in (1, 2, 3):
        save_checkpoint(files, state(step), record(step), keep=keep)
        save_weights(files, state(step, step).weights, record(step))
    num_before = len(list(files.folder.glob("*.pth")))
    for save, content in ((partial(save_checkpoint, keep=keep), state(4)), (save_weights, state(4, 4).weights)):
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            kill_after_renames(patch, call)
            save(files, content, record(4))
    paths = list(files.folder.glob("*.pth"))
    assert len(paths) >= num_before - 2
    assert [foreign_record(path) for path in paths] == [None] * len(paths)
    for path in paths:
        load_weights(path)


def test_the_longest_name_of_a_run_s_file_leaves_room_for_it(tmp_path):
    exp_id, steps = "x" * (255 - len(LONGEST_OF_A_RUN.encode())), 10**9
    files = RunFiles(tmp_path, exp_id)
    members = inspect.getmembers(files, lambda value: isinstance(value, Path))
    paths = [path for name, path in members if not name.endswith("folder")]
    paths += [files.weights_copy(steps), files.checkpoint_copy(steps), tmp_path / f"{exp_id}_ema_sigma{0.0123456:g}_step{steps}.pth"]
    assert len(paths) == 9
    for path in (*paths, *(path.with_name(f"{path.stem}_export.pth") for path in paths)):
        record_beside(path).touch()  # raises OSError for a name that no file may have
