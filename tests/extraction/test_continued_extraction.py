"""Going on with an extraction, or making a store again, after files, tables and folders have changed meanwhile."""

import json
import os
import shutil

import pytest

from mmaudio.clips.clip_tables import read_rejects
from mmaudio.extraction.progress import ProgressLog
from mmaudio.extraction.row_writer import RowWriter
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.synthetic import draw_bounces, render_sound
from mmaudio.store.reader import Store
from tests.extraction.test_extract import AUDIO_SCRIPT, CAPTIONS, LITE, content, extract, stop_after, videos  # noqa: F401 - a fixture

IDS = list(CAPTIONS)


@pytest.fixture
def media(videos, tmp_path):  # noqa: F811
    """A copy of the videos that may be changed, and their table."""
    shutil.copytree(videos / "clips", tmp_path / "clips")
    shutil.copy(videos / "set.tsv", tmp_path / "set.tsv")
    return tmp_path


def replace_by(media, row_id, other):
    """Another file under the name of a row, of whatever length."""
    shutil.copy(media / "clips" / f"{other}.mp4", media / "new.mp4")
    os.replace(media / "new.mp4", media / "clips" / f"{row_id}.mp4")


def error_of(ended):
    """The only sentence told."""
    told = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (len(told), "Traceback" in ended.err) == (1, False), ended.err
    return told[0]


def rows_encoded(ended, num_rows):
    return f"extract video: {num_rows} of {num_rows}" in ended.out + ended.err


def test_a_row_whose_file_was_replaced_while_the_run_was_stopped_is_done_again(run_script, media):
    stop_after(run_script, media, media / "out", 3)
    replace_by(media, IDS[1], IDS[4])
    ended = extract(run_script, media, media / "out")
    assert ended.code == 0, ended.err
    assert f"1 of 5 inputs ({IDS[1]!r}) are done again: their files were replaced since" in ended.out
    assert "2 of 5 inputs were done before" in ended.out
    assert rows_encoded(ended, 3)
    assert extract(run_script, media, media / "fresh").code == 0
    assert content(media / "out") == content(media / "fresh")


def test_nothing_is_done_again_where_nothing_was_replaced_or_nobody_noted_what_was_read(run_script, media):
    stop_after(run_script, media, media / "out", 3)
    for path in (media / "out" / "parts").glob("rows.*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({name: line[name] for name in ("kept", "rejected")}) + "\n" for line in lines))
    write_table(media / "out" / "parts" / "inputs.tsv", ("id",), [(row_id,) for row_id in IDS])
    replace_by(media, IDS[1], IDS[4])
    ended = extract(run_script, media, media / "out")
    assert (ended.code, rows_encoded(ended, 2)) == (0, True), ended.err


def test_what_was_replaced_twice_and_put_back_is_the_file_that_is_there(run_script, media):
    """The run that does it again is killed as well, with the new row on disk; then the first file is there again."""
    first = media / "clips" / f"{IDS[0]}.mp4"
    shutil.copy2(first, media / "first.mp4")
    stop_after(run_script, media, media / "out", 2)
    replace_by(media, IDS[0], IDS[4])
    stop_after(run_script, media, media / "out", 1)
    shutil.copy2(media / "first.mp4", first)
    ended = extract(run_script, media, media / "out")
    assert ended.code == 0, ended.err
    assert extract(run_script, media, media / "fresh").code == 0
    assert content(media / "out") == content(media / "fresh")


def test_a_replaced_file_is_noticed_when_rows_are_being_added(run_script, media):
    rows = list(CAPTIONS.items())
    write_table(media / "set.tsv", ("id", "label"), rows[:2])
    assert extract(run_script, media, media / "out").code == 0
    write_table(media / "set.tsv", ("id", "label"), rows)
    stop_after(run_script, media, media / "out", 2, "--append")
    replace_by(media, IDS[2], IDS[0])
    ended = extract(run_script, media, media / "out", "--append")
    assert ended.code == 0, ended.err
    assert f"1 of 3 inputs ({IDS[2]!r}) are done again" in ended.out
    store = Store.open(media / "out" / "some.name.tsv", media / "out" / "some.name")
    assert store.read_block("mean", 2, 3).equal(store.read_block("mean", 0, 1))


def test_clips_of_a_recording_that_was_replaced(run_script, tmp_path):
    for number, name in enumerate("xy"):
        write_flac(tmp_path / "sounds" / f"{name}.flac", render_sound(draw_bounces(5, "sound", number, 3.0), 16_000), 16_000)
    write_table(tmp_path / "captions.tsv", ("id", "caption"), [("x", "one"), ("y", "two")])
    spans = [(f"{name}_{at}", name, str(at * 16_896), str((at + 1) * 16_896)) for name in "xy" for at in range(2)]
    write_table(tmp_path / "clips.tsv", ("id", "name", "start_sample", "end_sample"), spans)
    tables = ("--captions_tsv", tmp_path / "captions.tsv", "--clips_tsv", tmp_path / "clips.tsv")
    words = (AUDIO_SCRIPT, "--data_dir", tmp_path / "sounds", *tables, *LITE)
    places = ("--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "s")
    with pytest.MonkeyPatch.context() as patch:
        keep = RowWriter.keep

        def keep_some(recorder, number, *row):
            if number == 3:
                raise KeyboardInterrupt
            keep(recorder, number, *row)

        patch.setattr(RowWriter, "keep", keep_some)
        assert run_script(*words, *places).code == 130
    write_flac(tmp_path / "sounds" / "x.flac", render_sound(draw_bounces(5, "sound", 7, 3.0), 16_000), 16_000)
    ended = run_script(*words, *places)
    assert ended.code == 0, ended.err
    assert "2 of 4 inputs ('x_0', 'x_1') are done again" in ended.out
    assert run_script(*words, "--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "other").code == 0
    assert content(tmp_path / "s") == content(tmp_path / "other")


def test_a_replaced_file_that_cannot_be_used_is_a_reject_and_a_mended_one_a_row(run_script, media):
    bad = media / "clips" / f"{IDS[0]}.mp4"
    good = bad.read_bytes()
    (media / "clips" / f"{IDS[2]}.mp4").write_bytes(b"no video")
    stop_after(run_script, media, media / "out", 3)
    bad.write_bytes(b"")
    replace_by(media, IDS[2], IDS[3])
    ended = extract(run_script, media, media / "out")
    assert ended.code == 3, ended.err
    assert f"({IDS[0]!r}, {IDS[2]!r}) are done again" in ended.out
    (reject,) = read_rejects(media / "out" / "some.name.failed.tsv")
    assert (reject.id, "empty" in reject.reason) == (IDS[0], True)
    bad.write_bytes(good)
    assert extract(run_script, media, media / "out", "--append").code == 0


def test_files_that_are_gone_on_going_on_are_rejects_and_rows_of_them_stay(run_script, media):
    stop_after(run_script, media, media / "out", 2)
    (media / "clips" / f"{IDS[0]}.mp4").unlink()
    (media / "clips" / f"{IDS[4]}.mp4").unlink()
    ended = extract(run_script, media, media / "out")
    assert ended.code == 3, ended.err
    (reject,) = read_rejects(media / "out" / "some.name.failed.tsv")
    assert (reject.id, reject.file, reject.stage, "no file at" in reject.reason) == (IDS[4], f"{IDS[4]}.mp4", "read", True)
    assert read_table(media / "out" / "some.name.tsv").column("id") == IDS[:4]
    assert "4 of 5 inputs kept, 1 left out" in ended.out


def test_a_row_that_is_no_longer_listed_on_going_on_is_named(run_script, media):
    stop_after(run_script, media, media / "out", 2)
    write_table(media / "set.tsv", ("id", "label"), list(CAPTIONS.items())[:4])
    said = error_of(extract(run_script, media, media / "out"))
    assert f"the tables no longer list {IDS[4]!r}, which it was begun with" in said


def test_a_store_is_made_again_of_the_same_rows_and_not_of_others(run_script, media):
    out, rows = media / "out", list(CAPTIONS.items())
    write_table(media / "set.tsv", ("id", "label"), rows[:3])
    assert extract(run_script, media, out).code == 0
    before = content(out)
    assert extract(run_script, media, out).code == 0
    assert content(out) == before
    write_table(media / "other.tsv", ("id", "label"), [(rows[0][0], "another caption"), *rows[2:]])
    said = error_of(extract(run_script, media, out, "--tsv", media / "other.tsv"))
    assert f"store {out}/some.name would be replaced" in said
    assert f"2 of its 3 rows ({IDS[0]!r}, {IDS[1]!r}) are not, with their captions, among those of {media}/other.tsv" in said
    assert "--append" in said and "another name" in said and "--replace" in said
    said = error_of(extract(run_script, media, out, "--mode", "44k"))
    assert "mode is '16k' there and '44k' here" in said
    assert content(out) == before
    assert extract(run_script, media, out, "--tsv", media / "other.tsv", "--replace").code == 0
    assert read_table(out / "some.name.tsv").column("id") == [rows[0][0], *IDS[2:]]
    assert "leave one of them out" in error_of(extract(run_script, media, out, "--append", "--replace"))


def test_a_store_that_came_while_another_one_was_made_is_not_lost(run_script, media):
    rows = list(CAPTIONS.items())
    stop_after(run_script, media, media / "out", 2, "--latent_dir", media / "slow")
    other = media / "other"
    write_table(media / "few.tsv", ("id", "label"), [(rows[0][0], "another caption")])
    assert extract(run_script, media, other, "--tsv", media / "few.tsv").code == 0

    def comes(recorder, number, *row):
        keep(recorder, number, *row)
        if number == 4:
            shutil.copytree(other, media / "out", dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        keep = RowWriter.keep
        patch.setattr(RowWriter, "keep", comes)
        said = error_of(extract(run_script, media, media / "out", "--latent_dir", media / "slow"))
    assert "would be replaced by another one" in said
    assert content(media / "out") == content(other)
    assert extract(run_script, media, media / "out", "--latent_dir", media / "slow", "--replace").code == 0


def test_rows_to_add_that_all_fail_are_tried_again_by_the_same_command(run_script, media):
    rows = list(CAPTIONS.items())
    write_table(media / "set.tsv", ("id", "label"), rows[:3])
    assert extract(run_script, media, media / "out").code == 0
    write_table(media / "set.tsv", ("id", "label"), rows)
    good = {row_id: (media / "clips" / f"{row_id}.mp4").read_bytes() for row_id in IDS[3:]}
    for row_id in good:
        (media / "clips" / f"{row_id}.mp4").write_bytes(b"")
    said = error_of(extract(run_script, media, media / "out", "--append"))
    assert "none of the 2 inputs gave a row to add" in said and "the same command tries them again" in said
    assert not (media / "out" / "parts").exists()
    (media / "clips" / f"{IDS[3]}.mp4").write_bytes(b"no video")
    assert extract(run_script, media, media / "out", "--append").code == 3
    reasons = {reject.id: reject.reason for reject in read_rejects(media / "out" / "some.name.failed.tsv")}
    assert "empty" not in reasons[IDS[3]] and "empty" in reasons[IDS[4]]
    for row_id, data in good.items():
        (media / "clips" / f"{row_id}.mp4").write_bytes(data)
    assert extract(run_script, media, media / "out", "--append").code == 0
    assert not (media / "out" / "some.name.failed.tsv").exists()


@pytest.mark.parametrize("what", ["a file in the way", "a table that is a folder", "no right to write"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(run_script, media, monkeypatch, what):
    out = media / "out"
    if what == "a file in the way":
        out.write_text("precious")
    elif what == "a table that is a folder":
        (out / "some.name.tsv").mkdir(parents=True)
    else:
        out.mkdir()
        monkeypatch.setattr(os, "access", lambda path, _: str(path) != str(out))
    ended = extract(run_script, media, out, "--latent_dir", media / "parts")
    said = error_of(ended)
    assert (ended.code, "some.name.tsv is a folder" in said or f"nothing can be written to {out}" in said) == (2, True), said
    assert not (media / "parts").exists()


@pytest.mark.parametrize("line", [b"hi", b"\xff\xfe", b'{"kept": [99], "rejected": []}', b"[1]", b'{"kept": ["a"], "rejected": []}'])
def test_a_line_in_a_ledger_that_no_extraction_writes_is_told(run_script, media, line):
    stop_after(run_script, media, media / "out", 2)
    (path,) = ProgressLog(media / "out" / "parts", "rows").files()
    path.write_bytes(path.read_bytes() + line + b"\n")
    ended = extract(run_script, media, media / "out")
    assert (ended.code, f"{path.name}, line 2 is no entry of an extraction" in error_of(ended)) == (2, True)


@pytest.mark.parametrize("at", [0, 4])
def test_a_folder_of_the_work_under_way_that_is_deleted_meanwhile_is_told(run_script, media, monkeypatch, at):
    keep = RowWriter.keep

    def delete(recorder, number, *row):
        if number == at:
            shutil.rmtree(media / "out" / "parts")
        keep(recorder, number, *row)

    monkeypatch.setattr(RowWriter, "keep", delete)
    ended = extract(run_script, media, media / "out")
    assert (ended.code, "was removed or emptied while this extraction was at work" in error_of(ended)) == (2, True)
    assert not (media / "out" / "some.name").exists()


def test_adding_to_no_store_is_told_in_one_sentence(run_script, media):
    assert "there is no store at" in error_of(extract(run_script, media, media / "out", "--append"))


def test_all_tables_that_are_missing_are_told(run_script, tmp_path):
    (tmp_path / "sounds").mkdir()
    tables = ("--captions_tsv", tmp_path / "captions.tsv", "--clips_tsv", tmp_path / "clips.tsv")
    places = ("--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "s")
    ended = run_script(AUDIO_SCRIPT, "--data_dir", tmp_path / "sounds", *tables, *places, *LITE)
    assert [f"no table at {tmp_path / name}" in ended.err for name in ("captions.tsv", "clips.tsv")] == [True, True]
    assert ended.code == 2


@pytest.mark.parametrize(("limit", "allowed"), [("1.0", 5), ("1", 1), ("0.4", 2), ("0.0", 0)])
def test_a_limit_with_a_point_is_a_share(limit, allowed):
    from mmaudio.base.errors import RejectsError
    from mmaudio.extraction.progress import FailureLimit

    FailureLimit.parse(limit).check(allowed, 5)
    with pytest.raises(RejectsError, match=f"allows {allowed}"):
        FailureLimit.parse(limit).check(allowed + 1, 5)


@pytest.mark.parametrize("words", [("--start", -1), ("--end", -2), ("--start", 3, "--end", 2), ("--end", 0)])
def test_a_slice_that_is_none_is_refused(run_script, tmp_path, words):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.flac").write_bytes(b"")
    ended = run_script("training/partition_clips.py", "--data_dir", tmp_path / "sounds", "--output_dir", tmp_path / "c.tsv", *words)
    assert (ended.code, "want" in error_of(ended)) == (2, True)


def test_no_table_without_clips_is_written(run_script, tmp_path):
    write_flac(tmp_path / "sounds" / "x.flac", render_sound(draw_bounces(5, "sound", 1, 2.0), 16_000), 16_000)
    words = ("--data_dir", tmp_path / "sounds", "--output_dir", tmp_path / "c.tsv", "--clip_length", 1e9)
    ended = run_script("training/partition_clips.py", *words)
    assert (ended.code, "none of the 1 files gave a clip" in error_of(ended)) == (3, True)
    assert [reject.id for reject in read_rejects(tmp_path / "c.failed.tsv")] == ["x"]
    assert not (tmp_path / "c.tsv").exists()
