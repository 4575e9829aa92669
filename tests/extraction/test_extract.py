"""Extraction by its scripts: any number of processes, resumed or not, the same store; nothing vanishes."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from mmaudio.clips.clip_tables import read_rejects
from mmaudio.extraction.row_writer import RowWriter
from mmaudio.extraction.workspace import Workspace
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.store import writer as publish
from mmaudio.store.reader import Store
from tests.conftest import torchrun

VIDEO_SCRIPT = "training/extract_video_training_latents.py"
AUDIO_SCRIPT = "training/extract_audio_training_latents.py"
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 1.0)
CAPTIONS = {"00008004": "1e5", "1e5": "None", "None": "NA", "é🎈": 'a "quoted"\ttab\nand a line', "NA": '"leading quote'}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for index, name in enumerate(CAPTIONS):
        bounces = draw_bounces(11, "test", index, 1.2)
        write_video(folder / "clips" / f"{name}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 22_050), 22_050)
    write_table(folder / "set.tsv", ("id", "label"), CAPTIONS.items())
    return folder


def extract(run_script, videos: Path, output: Path, *more):
    words = ("--data_dir", videos / "clips", "--tsv", videos / "set.tsv", "--name", "some.name", "--batch_size", 2)
    return run_script(VIDEO_SCRIPT, *words, "--latent_dir", output / "parts", "--output_dir", output, *LITE, *more)


def content(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}


def test_ids_captions_and_features_survive(run_script, videos, tmp_path):
    ended = extract(run_script, videos, tmp_path)
    assert ended.code == 0, ended.err
    store = Store.open(tmp_path / "some.name.tsv", tmp_path / "some.name")
    assert dict(zip(store.ids, store.captions, strict=True)) == CAPTIONS
    assert (store.kind, store.layout, store.num_latents, store.num_clip, store.num_sync) == ("video", "compact", 32, 8, 16)
    rows = store.gather(torch.arange(5))
    assert all(
        torch.isfinite(rows[name].float()).all() and rows[name].float().std() > 0.01 for name in ("mean", "clip_features", "sync_features")
    )
    assert not (tmp_path / "parts").exists(), "parts are removed once the store stands"
    assert not (tmp_path / "some.name.failed.tsv").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.name", "some.name.json", "some.name.tsv"]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_two_processes_and_ends_the_same(run_script, videos, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert extract(run_script, videos, whole).code == 0
    stop_after(run_script, videos, killed, 2)
    words = ("--data_dir", videos / "clips", "--tsv", videos / "set.tsv", "--name", "some.name")
    ended = torchrun(VIDEO_SCRIPT, *words, "--latent_dir", killed / "parts", "--output_dir", killed, *LITE)
    assert ended.returncode == 0, ended.stderr
    assert "2 of 5 inputs were done before" in ended.stdout
    assert content(killed) == content(whole)


def stop_after(run_script, videos, output, num_rows, *more):
    """An extraction that is interrupted when it has so many rows."""
    keep, kept = RowWriter.keep, []

    def keep_some(recorder, number, *words):
        if len(kept) == num_rows:
            raise KeyboardInterrupt
        kept.append(number)
        keep(recorder, number, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowWriter, "keep", keep_some)
        ended = extract(run_script, videos, output, *more)
    assert ended.code == 130
    assert "the same command goes on where this one stopped" in ended.err


CHANGES = ("rename", "replace", "link", "truncate", "unlink")


@pytest.mark.parametrize("layout", ["compact", "published"])
def test_a_kill_at_any_change_of_the_disk_ends_the_same(run_script, videos, tmp_path, layout):
    """Everything is encoded once; then the run dies before the 1st, the 2nd, … change of a name or length, and goes on."""
    shutil.copytree(videos / "clips", tmp_path / "clips")
    (tmp_path / "clips" / "1e5.mp4").write_bytes(b"")  # leaves a gap to be closed
    shutil.copy(videos / "set.tsv", tmp_path / "set.tsv")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert extract(run_script, tmp_path, whole, "--layout", layout).code == 3
    stop_after(run_script, tmp_path, killed, 4, "--layout", layout)
    num_kills = 0
    while True:
        left, num_kills = num_kills + 1, num_kills + 1
        with pytest.MonkeyPatch.context() as patch:

            def dies(name):
                change = getattr(os, name)

                def before(*words, **options):
                    nonlocal left
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                    return change(*words, **options)

                return before

            for name in CHANGES:
                patch.setattr(os, name, dies(name))
            ended = extract(run_script, tmp_path, killed, "--layout", layout)
        if ended.code != 130:
            break
        for path in killed.rglob(".*.tmp"):  # a kill leaves what an interruption removes, and this process still runs
            path.unlink() if path.is_file() else shutil.rmtree(path)
    assert ended.code == 3, ended.err
    assert num_kills > 15
    assert content(killed) == content(whole)


def test_work_of_another_run_is_refused(run_script, videos, tmp_path):
    stop_after(run_script, videos, tmp_path, 3)
    ended = extract(run_script, videos, tmp_path, "--mode", "44k", "--num_worker", "3", "--column_dtype", "sync_features=fp32")
    assert ended.code == 2
    assert "mode is '16k' there and '44k' here" in ended.err
    assert "'sync_features': 'bfloat16'" in ended.err
    assert "unknown option --num_worker (did you mean '--num_workers'?)" in ended.err
    assert "Traceback" not in ended.err


def test_media_that_come_while_a_run_is_stopped_wait_for_their_turn(run_script, videos, tmp_path):
    shutil.copytree(videos / "clips", tmp_path / "clips")
    shutil.copy(videos / "set.tsv", tmp_path / "set.tsv")
    late = (tmp_path / "clips" / "1e5.mp4").rename(tmp_path / "late.mp4")
    stop_after(run_script, tmp_path, tmp_path / "out", 2)
    late.rename(tmp_path / "clips" / "1e5.mp4")
    ended = extract(run_script, tmp_path, tmp_path / "out")
    assert ended.code == 3, ended.err
    (reject,) = read_rejects(tmp_path / "out" / "some.name.failed.tsv")
    assert (reject.id, "came after this extraction was begun" in reject.reason) == ("1e5", True)
    ended = extract(run_script, tmp_path, tmp_path / "out", "--append")
    assert ended.code == 0, ended.err
    assert not (tmp_path / "out" / "some.name.failed.tsv").exists()
    assert Store.open(tmp_path / "out" / "some.name.tsv", tmp_path / "out" / "some.name").ids == ["00008004", "None", "é🎈", "NA", "1e5"]


def test_two_runs_at_once_are_refused(run_script, videos, tmp_path, monkeypatch):
    monkeypatch.setattr("mmaudio.extraction.workspace.PATIENCE_S", 0.5)
    (tmp_path / "parts").mkdir()
    with open(tmp_path / "parts" / "lock", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        ended = extract(run_script, videos, tmp_path)
        assert ended.code == 2
        assert "another extraction is at work in" in ended.err
        assert not (tmp_path / "some.name").exists()
    assert extract(run_script, videos, tmp_path).code == 0


def test_nothing_of_anybody_else_in_the_latent_dir_is_touched(run_script, videos, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "notes.jsonl").write_text("mine")
    (tmp_path / "parts" / "big.memmap").write_text("mine, too")
    assert extract(run_script, videos, tmp_path).code == 0
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["big.memmap", "notes.jsonl"]
    (tmp_path / "parts" / "mean.memmap").write_text("of a store, perhaps")
    ended = extract(run_script, videos, tmp_path)
    assert ended.code == 2
    assert "holds mean.memmap, though no extraction is under way there" in ended.err
    before = content(tmp_path)
    for place in ("some.name", "some.name/parts"):
        ended = extract(run_script, videos, tmp_path, "--append", "--latent_dir", tmp_path / place)
        assert ended.code == 2
        assert "which is the folder of the store or in it" in ended.err
    assert content(tmp_path) == before


def test_what_was_done_for_another_folder_is_done_again(run_script, videos, tmp_path):
    """A run killed while it cleaned up leaves a folder that says done; of a store elsewhere that is no use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "remove", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        assert extract(run_script, videos, tmp_path / "one", "--latent_dir", tmp_path / "parts").code == 130
    shutil.copytree(tmp_path / "parts", tmp_path / "again")
    ended = extract(run_script, videos, tmp_path / "two", "--latent_dir", tmp_path / "parts")
    assert ended.code == 0, ended.err
    assert content(tmp_path / "two") == content(tmp_path / "one")
    ended = extract(run_script, videos, tmp_path / "one", "--latent_dir", tmp_path / "again")
    assert (ended.code, "extract video" in ended.out) == (0, False), "only cleaned up"
    assert not (tmp_path / "again").exists()
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_two_additions_to_one_store_do_not_lose_rows(run_script, videos, tmp_path):
    """One is planned, another one ends, the first goes on: it may not write over the rows that came."""
    some = list(CAPTIONS.items())
    shutil.copytree(videos / "clips", tmp_path / "clips")
    write_table(tmp_path / "set.tsv", ("id", "label"), some[:2])
    assert extract(run_script, tmp_path, tmp_path / "out").code == 0
    write_table(tmp_path / "set.tsv", ("id", "label"), some[:4])
    stop_after(run_script, tmp_path, tmp_path / "out", 1, "--append", "--latent_dir", tmp_path / "slow")
    write_table(tmp_path / "set.tsv", ("id", "label"), [*some[:2], some[4]])
    assert extract(run_script, tmp_path, tmp_path / "out", "--append").code == 0
    before = content(tmp_path / "out")
    write_table(tmp_path / "set.tsv", ("id", "label"), some[:4])
    ended = extract(run_script, tmp_path, tmp_path / "out", "--append", "--latent_dir", tmp_path / "slow")
    assert ended.code == 2
    assert "was changed while rows were being added" in ended.err
    assert content(tmp_path / "out") == before


@pytest.mark.slow
def test_processes_give_up_together(run_script, videos, tmp_path):
    shutil.copytree(videos / "clips", tmp_path / "clips")
    shutil.copy(videos / "set.tsv", tmp_path / "set.tsv")
    for name in ("1e5", "None", "NA"):
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(b"no video")
    words = ("--data_dir", tmp_path / "clips", "--tsv", tmp_path / "set.tsv", "--name", "some.name", "--max_failures", 1)
    ended = torchrun(VIDEO_SCRIPT, *words, "--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "out", *LITE)
    assert ended.returncode == 1
    told = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1, ended.stderr
    assert "of 5 inputs failed and --max_failures allows 1" in told[0]
    assert ended.stderr.count("Traceback (most recent call last)") == 1, "torchrun's own"
    assert not (tmp_path / "out" / "some.name").exists()


def test_rows_are_added_to_a_store(run_script, videos, tmp_path):
    whole, grown = tmp_path / "whole", tmp_path / "grown"
    some = list(CAPTIONS.items())
    assert extract(run_script, videos, whole).code == 0
    write_table(tmp_path / "set.tsv", ("id", "label"), some[:2])
    shutil.copytree(videos / "clips", tmp_path / "clips")
    assert extract(run_script, tmp_path, grown).code == 0
    write_table(tmp_path / "set.tsv", ("id", "label"), some)
    ended = extract(run_script, tmp_path, grown, "--append", "--layout", "published")
    assert ended.code == 2
    assert "layout is 'compact' there and 'published' here" in ended.err
    ended = extract(run_script, tmp_path, grown, "--append")
    assert ended.code == 0, ended.err
    assert "3 of 3 inputs kept" in ended.out
    equal_stores(whole, grown)
    ended = extract(run_script, tmp_path, grown, "--append")
    assert (ended.code, "nothing to add" in ended.out) == (0, True)
    equal_stores(whole, grown)


def equal_stores(one, other):
    """Equal to the byte, but for the last digits of the statistics."""
    records = [json.loads((folder / "some.name.json").read_text()) for folder in (one, other)]
    for name in ("latent_mean", "latent_std"):
        found, wanted = (record.pop(name) for record in records)
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-15)
    assert records[0] == records[1]
    contents = [{name: data for name, data in content(folder).items() if name != "some.name.json"} for folder in (one, other)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("layout", "other"), [("compact", "published"), ("published", "compact")])
def test_the_null_text_of_the_encoder_is_known_from_then_on(run_script, run_command, videos, tmp_path, monkeypatch, layout, other):
    """By the record, whoever the encoder was; also after the store was converted, but not where somebody gave another."""
    monkeypatch.chdir(tmp_path)  # where no published null text is
    assert extract(run_script, videos, tmp_path, "--layout", layout).code == 0
    store = tmp_path / "some.name"
    for name in (other, layout):
        assert run_command("store", "convert", store, tmp_path / name, "--layout", name).code == 0
    torch.save(torch.randn(1, 77, 1024), tmp_path / "mine.pth")
    assert run_command("store", "convert", store, tmp_path / "given", "--layout", layout, "--null_text", tmp_path / "mine.pth").code == 0
    assert "null_text_hash" not in json.loads((tmp_path / "given.json").read_text())
    for folder in (store, tmp_path / other, tmp_path / layout):
        for path in (folder.with_name(f"{folder.name}.json"), tmp_path / "given.json"):  # no store of the lite backend any more
            path.write_text(json.dumps(json.loads(path.read_text()) | {"backend": "pretrained"}))
        ended = run_command("store", "verify", folder)
        assert (ended.code, "the one that the encoder gave when the store was made" in ended.out) == (0, True), ended.out
        if (folder / "null_text.memmap").exists():
            (folder / "null_text.memmap").write_bytes((folder / "text_table.memmap").read_bytes()[: 77 * 1024 * 2])
        else:
            shutil.copy(tmp_path / "mine.pth", folder.with_name(f"{folder.name}.empty_string.pth"))
        ended = run_command("store", "verify", folder)
        assert (ended.code, "WRONG  null text: the null text is not the one that the encoder gave" in ended.out) == (3, True)
    assert "and unchecked" in run_command("store", "verify", tmp_path / "given").out


@pytest.mark.parametrize("layout", ["compact", "published"])
def test_a_kill_while_rows_are_added_leaves_the_old_store_or_is_made_good(run_script, videos, tmp_path, layout):
    some = list(CAPTIONS.items())
    shutil.copytree(videos / "clips", tmp_path / "clips")
    write_table(tmp_path / "set.tsv", ("id", "label"), some)
    assert extract(run_script, tmp_path, tmp_path / "whole", "--layout", layout).code == 0
    for step in ("append_file", "describe_columns", "write_table", "write_json"):
        grown = tmp_path / step
        write_table(tmp_path / "set.tsv", ("id", "label"), some[:2])
        assert extract(run_script, tmp_path, grown, "--layout", layout).code == 0
        write_table(tmp_path / "set.tsv", ("id", "label"), some)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publish, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert extract(run_script, tmp_path, grown, "--append", "--layout", layout).code == 130
        if step in ("append_file", "describe_columns"):
            assert Store.open(grown / "some.name.tsv", grown / "some.name").num_rows == 2
        ended = extract(run_script, tmp_path, grown, "--append", "--layout", layout)
        assert ended.code == 0, ended.err
        equal_stores(tmp_path / "whole", grown)


def test_an_extraction_is_given_up_when_too_much_fails(run_script, videos, tmp_path):
    shutil.copytree(videos / "clips", tmp_path / "clips")
    shutil.copy(videos / "set.tsv", tmp_path / "set.tsv")
    good = (tmp_path / "clips" / "None.mp4").read_bytes()
    for name in ("1e5", "None"):
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(b"no video")
    for limit in ("1", "0.3"):
        ended = extract(run_script, tmp_path, tmp_path / "out", "--max_failures", limit)
        assert ended.code == 3
        assert f"2 of 5 inputs failed and --max_failures allows 1; {tmp_path}/out/some.name.failed.tsv has the reasons" in ended.err
        assert {reject.id for reject in read_rejects(tmp_path / "out" / "some.name.failed.tsv")} == {"1e5", "None"}
        assert not (tmp_path / "out" / "some.name").exists()
    (tmp_path / "clips" / "None.mp4").write_bytes(good)
    ended = extract(run_script, tmp_path, tmp_path / "out", "--max_failures", "1", "--retry_failed")
    assert ended.code == 3
    assert "4 of 5 inputs kept, 1 left out" in ended.out
    ended = extract(run_script, tmp_path, tmp_path / "other", "--max_failures", "some")
    assert (ended.code, "--max_failures is 'some'; want" in ended.err) == (2, True)


def test_when_every_input_fails_no_store_is_made_and_every_reason_is_told(run_script, videos, tmp_path):
    (tmp_path / "clips").mkdir()
    for name in CAPTIONS:
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(b"no video")
    shutil.copy(videos / "set.tsv", tmp_path / "set.tsv")
    ended = extract(run_script, tmp_path, tmp_path / "out")
    assert ended.code == 3
    assert "none of the 5 inputs gave a row" in ended.err
    assert len(read_rejects(tmp_path / "out" / "some.name.failed.tsv")) == 5
    assert not (tmp_path / "out" / "some.name").exists()


def test_inputs_that_fail_are_listed_and_the_rest_is_kept(run_script, videos, tmp_path):
    shutil.copytree(videos / "clips", tmp_path / "clips")
    (tmp_path / "clips" / "1e5.mp4").write_bytes(b"")
    short = draw_bounces(11, "test", 9, 0.8)
    write_video(tmp_path / "clips" / "None.mp4", iter(render_frames(short)), 25, render_sound(short, 16_000), 16_000)
    rows = [*CAPTIONS.items(), ("absent", "nothing"), ("00008004", "again")]
    write_table(tmp_path / "set.tsv", ("id", "label"), rows)
    out = tmp_path / "out"
    ended = extract(run_script, tmp_path, out)
    assert ended.code == 3
    rejects = {reject.id: reject for reject in read_rejects(out / "some.name.failed.tsv")}
    assert set(rejects) == {"1e5", "None", "absent", "00008004"}
    assert "empty" in rejects["1e5"].reason
    assert "too short" in rejects["None"].reason
    assert "no such file" in rejects["absent"].reason
    assert "more than once" in rejects["00008004"].reason
    assert read_table(out / "some.name.tsv").column("id") == ["00008004", "é🎈", "NA"]
    assert f"3 of {len(rows)} inputs kept, 4 left out" in ended.out


def test_when_nothing_can_be_used_the_command_says_so(run_script, videos, tmp_path):
    (tmp_path / "clips").mkdir()
    write_table(tmp_path / "set.tsv", ("id", "label"), [("a", "b")])
    ended = extract(run_script, tmp_path, tmp_path / "out")
    assert ended.code == 2
    assert "none of the 1 inputs can be used: no such file" in ended.err


@pytest.mark.parametrize("layout", ["compact", "published"])
def test_recordings(run_script, tmp_path, layout):
    sounds = {name: render_sound(draw_bounces(5, "sound", i, 4.0), 16_000) for i, name in enumerate(("00008004", "x.y"))}
    for name, wave in sounds.items():
        write_flac(tmp_path / "sounds" / f"{name}.flac", wave, 16_000)
    (tmp_path / "sounds" / "readme.txt").write_text("no sound")
    write_table(tmp_path / "captions.tsv", ("id", "caption"), [("00008004", "old"), ("00008004", "None"), ("x.y", "1")])
    cut = ("--data_dir", tmp_path / "sounds", "--output_dir", tmp_path / "clips.tsv", "--clip_length", 1.1)
    ended = run_script("training/partition_clips.py", *cut)
    assert ended.code == 3, ended.err
    assert [reject.file for reject in read_rejects(tmp_path / "clips.failed.tsv")] == ["readme.txt"]
    words = ("--data_path", tmp_path / "sounds", "--captions_tsv", tmp_path / "captions.tsv", "--clips_tsv", tmp_path / "clips.tsv")
    places = ("--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "stores" / "a.b", "--layout", layout)
    ended = run_script(AUDIO_SCRIPT, *words, *places, *LITE)
    assert ended.code == 0, ended.err
    store = Store.open(tmp_path / "stores" / "a.b.tsv", tmp_path / "stores" / "a.b")
    assert store.ids == ["00008004_0", "00008004_1", "00008004_2", "x.y_0", "x.y_1", "x.y_2"]
    assert store.captions == ["None"] * 3 + ["1"] * 3
    assert (store.kind, store.layout) == ("audio", layout)
    assert json.loads((tmp_path / "stores" / "a.b.json").read_text())["backend"] == "lite"


def test_all_mistakes_are_told_at_once(run_script, tmp_path):
    words = ("--data_dir", tmp_path / "none", "--tsv", tmp_path / "none.tsv", "--batch_size", 0, "--devise", "cpu", "--duration", 0.3)
    ended = run_script(VIDEO_SCRIPT, *words, "--output_dir", tmp_path / "out", "--backend", "lite", "--device", "gpu")
    assert ended.code == 2
    wanted = ("--devise (did you mean '--device'?)", "--batch_size is 0", "device is 'gpu'", "at least 0.64 s", "not a folder")
    assert [part for part in wanted if part not in ended.err] == []
    assert not (tmp_path / "out").exists()


def test_nothing_a_user_has_is_replaced(run_script, videos, tmp_path):
    shutil.copy(videos / "set.tsv", tmp_path / "some.name.tsv")
    (tmp_path / "some.name").mkdir()
    (tmp_path / "some.name" / "thesis.txt").write_text("years of work")
    ended = extract(run_script, videos, tmp_path)
    assert ended.code == 2
    assert f"{tmp_path}/some.name was not made by this program" in ended.err
    (tmp_path / "some.name" / "thesis.txt").unlink()
    ended = extract(run_script, videos, tmp_path, "--tsv", tmp_path / "some.name.tsv")
    assert ended.code == 2
    assert "which it is made from" in ended.err
    assert (tmp_path / "some.name.tsv").read_bytes() == (videos / "set.tsv").read_bytes()


def test_tables_beside_a_store_that_is_not_there_are_somebody_elses(run_script, videos, tmp_path):
    (tmp_path / "some.name.json").write_text("precious")
    ended = extract(run_script, videos, tmp_path)
    assert ended.code == 2
    assert "some.name.json was not made by this program" in ended.err
    assert (tmp_path / "some.name.json").read_text() == "precious"


def test_empty_places_and_a_manifest_of_something_else_are_refused(run_script, videos, tmp_path):
    ended = extract(run_script, videos, tmp_path, "--latent_dir", "")
    assert (ended.code, "--latent_dir is empty" in ended.err) == (2, True)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "manifest.json").write_text("hi")
    ended = extract(run_script, videos, tmp_path)
    assert (ended.code, "is not the manifest of an extraction" in ended.err) == (2, True)


@pytest.mark.parametrize("name", ["", "../other", "a/b", ".."])
def test_a_store_stays_in_its_folder(run_script, videos, tmp_path, name):
    ended = extract(run_script, videos, tmp_path, "--name", name)
    assert ended.code == 2
    assert "want a plain name without slashes" in ended.err


def test_a_place_that_cannot_be_written_is_told(run_script, videos, tmp_path):
    (tmp_path / "out").write_text("a file where a folder is wanted")
    ended = extract(run_script, videos, tmp_path / "out")
    assert ended.code == 2
    assert "Traceback" not in ended.err


def test_a_table_that_is_not_of_clips_is_not_replaced(run_script, videos):
    before = (videos / "set.tsv").read_bytes()
    ended = run_script("training/partition_clips.py", "--data_dir", videos / "clips", "--output_dir", videos / "set.tsv")
    assert ended.code == 2
    assert (videos / "set.tsv").read_bytes() == before


def test_nothing_to_partition(run_script, tmp_path):
    (tmp_path / "empty").mkdir()
    ended = run_script("training/partition_clips.py", "--data_dir", tmp_path / "empty", "--output_dir", tmp_path / "clips.tsv")
    assert ended.code == 2
    assert "which is empty" in ended.err
    assert not (tmp_path / "clips.tsv").exists()


def test_a_table_without_the_column_is_refused(run_script, videos, tmp_path):
    write_table(videos / "wrong.tsv", ("id", "lable"), [("a", "b")])
    ended = extract(run_script, videos, tmp_path, "--tsv", videos / "wrong.tsv")
    assert ended.code == 2
    assert "no column 'label' (did you mean 'lable'?)" in ended.err
