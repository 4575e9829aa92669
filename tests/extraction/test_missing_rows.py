"""Columns of work under way that are removed, cut or begun anew: whatever the stage, the store is that of an undisturbed extraction."""

import json
import os
import random
import re
import shutil
import subprocess
from functools import cache

import pytest
import torch

from mmaudio.clips.clip_tables import read_rejects
from mmaudio.extraction import finish
from mmaudio.extraction import pipeline as extraction
from mmaudio.extraction.row_writer import RowWriter
from mmaudio.extraction.workspace import Workspace
from mmaudio.files.tables import write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.store.column_writer import ColumnWriter
from tests.extraction.test_extract import AUDIO_SCRIPT, LITE, VIDEO_SCRIPT, content

NUM, BAD, OLD = 6, 2, 2  # inputs; which of them is none; how many rows a store has that is added to
KINDS, LAYOUTS = ("video", "audio"), ("compact", "published")
CUTS = ("remove", "empty", "half", "one byte", "one row", "begun anew")
ROW_COLUMNS = ("mean", "std", "clip_features", "sync_features", "moments")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Videos and sounds, one of each no such thing, and tables of them; captions repeat."""
    folder = tmp_path_factory.mktemp("media")
    captions = ["rain", "a ball", "rain", "wind", "a ball", "a dog"]
    for index in range(NUM):
        bounces = draw_bounces(11, "test", index, 1.1)
        write_video(folder / "videos" / f"v{index}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 16_000), 16_000)
        write_flac(folder / "sounds" / f"s{index}.flac", render_sound(bounces, 16_000), 16_000)
    (folder / "videos" / f"v{BAD}.mp4").write_bytes(b"no video")
    (folder / "sounds" / f"s{BAD}.flac").write_bytes(b"no sound")
    clips = [(f"c{index}", f"s{index}", "0", "16896") for index in range(NUM)]
    for name, count in (("old", OLD), ("all", NUM)):
        write_table(folder / f"{name}-video.tsv", ("id", "label"), [(f"v{index}", captions[index]) for index in range(count)])
        write_table(folder / f"{name}-clips.tsv", ("id", "name", "start_sample", "end_sample"), clips[:count])
    write_table(folder / "captions.tsv", ("id", "caption"), [(f"s{index}", captions[index]) for index in range(NUM)])
    return folder


class Case:
    """One way of extracting, with the store it gives undisturbed and what it leaves when it is killed at one of its stages."""

    def __init__(self, run_script, media, folder, kind, layout, is_added):
        self.media, self.folder, self.kind, self.layout, self.is_added = media, folder, kind, layout, is_added
        self.place = folder / "place"  # one for all: what is added to a store knows where that is
        self.begin(run_script)
        ended = self.go_on(run_script)
        assert ended.code == 3, ended.err
        self.whole = content(self.place)
        shutil.rmtree(self.place)
        self.left = cache(lambda stage: self._left(run_script, stage))

    def words(self, table):
        if self.kind == "video":
            made = (VIDEO_SCRIPT, "--data_dir", self.media / "videos", "--tsv", self.media / f"{table}-video.tsv", "--name", "s")
            return (*made, "--output_dir", self.place, "--latent_dir", self.place / "parts", *LITE, "--layout", self.layout)
        tables = ("--captions_tsv", self.media / "captions.tsv", "--clips_tsv", self.media / f"{table}-clips.tsv")
        made = (AUDIO_SCRIPT, "--data_dir", self.media / "sounds", *tables, "--output_dir", self.place / "s")
        return (*made, "--latent_dir", self.place / "parts", *LITE, "--layout", self.layout)

    def begin(self, run_script):
        if self.is_added:
            assert run_script(*self.words("old")).code == 0

    def go_on(self, run_script):
        return run_script(*self.words("all"), *(("--append",) if self.is_added else ()))

    def _left(self, run_script, stage):
        self.begin(run_script)
        with pytest.MonkeyPatch.context() as patch:
            STAGES[stage](patch)
            ended = self.go_on(run_script)
        assert ended.code == 130, (stage, ended.code, ended.err)
        return self.place.rename(self.folder / stage)

    def bring_back(self, stage):
        """Let things be as a kill left them, hard links included. Returns: the folder of the work under way."""
        left = self.left(stage)
        subprocess.run(["cp", "-a", str(left), str(self.place)], check=True)
        return self.place / "parts"


def dies(*_, **__):
    raise KeyboardInterrupt


def dies_at(patch, owner, name, at):
    """Let the `at`-th call of a function be the end."""
    do, calls = getattr(owner, name), []

    def counted(*words, **options):
        calls.append(name)
        return dies() if len(calls) == at else do(*words, **options)

    patch.setattr(owner, name, counted)


def dies_in_captions(patch):
    """When the first caption is encoded and the second is not."""
    keep, kept = RowWriter.keep, []

    def keep_one(recorder, number, row, stamp=None):
        kept.extend([number] if "text_table" in row else [])
        return dies() if len(kept) == 2 else keep(recorder, number, row, stamp)

    patch.setattr(RowWriter, "keep", keep_one)


STAGES = {
    "rows under way": lambda patch: dies_at(patch, RowWriter, "keep", 4),
    "rows final": lambda patch: patch.setattr(extraction, "_do_captions", dies),
    "captions under way": dies_in_captions,
    "captions done": lambda patch: patch.setattr(extraction, "finish_store", dies),
    "gaps being closed": lambda patch: dies_at(patch, finish, "close_gaps", 2),
    "gaps closed": lambda patch: patch.setattr(finish, "_put_texts", dies),
    "texts put": lambda patch: patch.setattr(finish, "_moments", dies),
    "columns in place": lambda patch: patch.setattr(finish.Sidecars, "write", dies),
    "store stands": lambda patch: patch.setattr(Workspace, "enter", enters_no_done),
    "done": lambda patch: patch.setattr(Workspace, "remove", dies),
}


def enters_no_done(work, stage, _enter=Workspace.enter, **facts):
    return dies() if stage == "done" else _enter(work, stage, **facts)


def damage(path, how, row_bytes):
    size = path.stat().st_size
    lengths = {"empty": 0, "half": size // 2, "one byte": max(size - 1, 0), "one row": max(size - row_bytes, 0)}
    if how in ("remove", "begun anew"):
        path.unlink()
    if how == "begun anew":
        path.touch()
        os.truncate(path, size)
    elif how != "remove":
        os.truncate(path, lengths[how])


@pytest.fixture(scope="module")
def cases(tmp_path_factory, media):
    made = {}

    def case(run_script, *way):
        if way not in made:
            made[way] = Case(run_script, media, tmp_path_factory.mktemp("case"), *way)
        return made[way]

    return case


def check(run_script, case, stage, name, how):
    """Damage a column, go on, and compare. Returns: what was said of it; None where there is no such column."""
    parts = case.bring_back(stage)
    path = parts / f"{name}.memmap"
    told = None
    if path.exists():
        damage(path, how, path.stat().st_size // NUM)
        ended = case.go_on(run_script)
        assert ended.code == 3, (stage, name, how, ended.err)
        assert content(case.place) == case.whole, (stage, name, how)
        told = re.findall(r"(\d+) of \d+ (?:inputs|captions) \(.*\) are (?:done|encoded) again: (.*)", ended.out)
        assert all(f"{name}.memmap in {parts} no longer holds" in words for _, words in told)
        is_all = how in ("remove", "empty", "begun anew")  # else only what is at the end is lost, which may not be done, or not needed
        was_needed = (
            (is_all or "under way" not in stage) if name in ROW_COLUMNS else is_all and name == "text_table" and stage in WITH_TEXTS
        )
        assert told or not was_needed or stage == "done", (stage, name, how, ended.out)
    shutil.rmtree(case.place)
    return told


WITH_TEXTS = list(STAGES)[2:]


def all_ways():
    columns = (*ROW_COLUMNS, "text_table", "text_row", "null_text", "text_features")
    return [
        (way, stage, name, how)
        for way in [(kind, layout, is_added) for kind in KINDS for layout in LAYOUTS for is_added in (False, True)]
        for stage in STAGES
        for name in columns
        for how in CUTS
    ]


@pytest.mark.soak
@pytest.mark.parametrize("way", sorted({way for way, *_ in all_ways()}), ids=str)
def test_every_column_at_every_stage(run_script, cases, way):
    for _, stage, name, how in (one for one in all_ways() if one[0] == way):
        check(run_script, cases(run_script, *way), stage, name, how)


@pytest.mark.slow
@pytest.mark.parametrize("way", sorted({way for way, *_ in all_ways()}), ids=str)
def test_some_columns_at_some_stages(run_script, cases, way):
    draw = random.Random(f"seed 1 {way}")
    for _, stage, name, how in draw.sample([one for one in all_ways() if one[0] == way], 12):
        check(run_script, cases(run_script, *way), stage, name, how)


@pytest.mark.parametrize("stage", STAGES)
def test_a_column_at_every_stage(run_script, cases, stage):
    case, draw = cases(run_script, "audio", "compact", False), random.Random(f"seed 2 {stage}")
    there = sorted(path.stem for path in case.bring_back(stage).glob("*.memmap"))
    shutil.rmtree(case.place)
    assert check(run_script, case, stage, draw.choice(there), draw.choice(CUTS)) is not None


@pytest.mark.parametrize(
    ("stage", "name", "how", "is_added"),
    [("rows under way", "sync_features", "remove", False), ("columns in place", "clip_features", "one row", True)],
)
def test_columns_of_videos(run_script, cases, stage, name, how, is_added):
    """The second is cut to the length that it has without gaps, and its gaps are closed; other rows are there."""
    assert check(run_script, cases(run_script, "video", "compact", is_added), stage, name, how)


@pytest.mark.parametrize("how", CUTS)
def test_how_many_rows_are_lost_is_said(run_script, cases, how):
    told = check(run_script, cases(run_script, "audio", "compact", False), "rows final", "mean", how)
    (count, _), wanted = told[0], {"half": 3, "one byte": 1, "one row": 1}
    assert int(count) == wanted.get(how, NUM - 1)


def one_error(ended):
    """The only sentence, of a run that was refused."""
    told = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (ended.code, len(told), "Traceback" in ended.err) == (2, 1, False), ended.err
    return told[0]


@pytest.fixture
def own_media(media, tmp_path):
    """Media that may be changed."""
    return shutil.copytree(media, tmp_path / "media")


def test_a_final_row_that_is_lost_with_its_file_is_refused_until_the_file_is_back(run_script, own_media, tmp_path):
    case = Case(run_script, own_media, tmp_path, "audio", "compact", False)
    parts, sound = case.bring_back("gaps closed"), own_media / "sounds" / "s4.flac"
    sound.rename(tmp_path / "s4.flac")
    (parts / "std.memmap").unlink()
    before = {path.name: path.read_bytes() for path in parts.iterdir() if path.name != "lock"}
    said = one_error(case.go_on(run_script))
    assert "std.memmap in" in said and "the files of 1 of the rows ('c4') are gone" in said and "bring them back" in said
    assert {path.name: path.read_bytes() for path in parts.iterdir() if path.name != "lock"} == before
    (tmp_path / "s4.flac").rename(sound)
    assert case.go_on(run_script).code == 3
    assert content(case.place) == case.whole


def test_a_row_that_is_lost_before_rows_are_final_with_its_file_is_a_reject(run_script, own_media, tmp_path):
    case = Case(run_script, own_media, tmp_path, "audio", "compact", False)
    parts = case.bring_back("rows under way")
    (own_media / "sounds" / "s1.flac").unlink()
    (parts / "mean.memmap").unlink()
    assert case.go_on(run_script).code == 3
    assert {reject.id for reject in read_rejects(case.place / "s.failed.tsv")} == {"c1", f"c{BAD}"}


def write_as_the_version_before(parts):
    """Take from the work under way what that version did not write."""
    for path in parts.glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{key: value for key, value in line.items() if key not in ("crc32", "fingerprints")} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    for path in parts.glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in content.items() if key not in ("checksum", "kept_hash")}))
    for path in parts.glob("*.closed"):
        path.unlink()


@pytest.mark.parametrize("stage", STAGES)
def test_work_of_the_version_before_is_gone_on_with(run_script, cases, stage):
    case = cases(run_script, "audio", "published", True)
    write_as_the_version_before(case.bring_back(stage))
    ended = case.go_on(run_script)
    assert (ended.code, content(case.place) == case.whole, "again" in ended.out) == (3, True, False), ended.out + ended.err
    shutil.rmtree(case.place)


@pytest.mark.parametrize(
    ("stage", "name", "how"),
    [("rows under way", "mean", "begun anew"), ("gaps closed", "std", "one row"), ("captions done", "moments", "half")],
)
def test_work_of_the_version_before_has_no_holes_either(run_script, cases, stage, name, how):
    case = cases(run_script, "audio", "published", True)
    parts = case.bring_back(stage)
    write_as_the_version_before(parts)
    damage(parts / f"{name}.memmap", how, (parts / f"{name}.memmap").stat().st_size // NUM)
    ended = case.go_on(run_script)
    assert (ended.code, content(case.place) == case.whole, "are done again" in ended.out) == (3, True, True), ended.out + ended.err
    shutil.rmtree(case.place)


@pytest.mark.parametrize("stage", ["rows final", "gaps closed"])
def test_a_ledger_that_is_gone_is_of_rows_that_are_done_again(run_script, cases, stage):
    """Of closed gaps nobody knows any more which rows stand where."""
    case = cases(run_script, "audio", "compact", False)
    parts = case.bring_back(stage)
    (path,) = parts.glob("rows.*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    assert case.go_on(run_script).code == 3
    assert content(case.place) == case.whole
    shutil.rmtree(case.place)


@pytest.mark.parametrize("how", ["remove", "empty", "begun anew"])
def test_a_column_that_is_lost_during_the_run_is_made_again_in_it(run_script, cases, monkeypatch, how):
    case, keep = cases(run_script, "audio", "compact", False), RowWriter.keep
    case.begin(run_script)

    def damages(recorder, number, row, stamp=None):
        keep(recorder, number, row, stamp)
        if number == 3 and (path := case.place / "parts" / "mean.memmap").stat().st_nlink and not damaged:
            damaged.append(path)
            damage(path, how, 0)

    damaged = []
    monkeypatch.setattr(RowWriter, "keep", damages)
    ended = case.go_on(run_script)
    assert (ended.code, content(case.place) == case.whole) == (3, True), ended.err
    assert "are done again: mean.memmap in" in ended.out
    shutil.rmtree(case.place)


def test_a_disk_that_keeps_nothing_is_told(run_script, cases, monkeypatch):
    case, write = cases(run_script, "audio", "compact", False), ColumnWriter.write_row
    monkeypatch.setattr(ColumnWriter, "write_row", lambda files, name, number, row: write(files, name, number, row) ^ 1)
    assert "lose what is written to them, again and again" in one_error(case.go_on(run_script))
    shutil.rmtree(case.place)


def test_a_table_of_texts_that_is_removed_while_captions_are_encoded_is_told(run_script, cases, monkeypatch):
    case, encode = cases(run_script, "audio", "published", False), finish._put_texts

    def removes(folder, *words):
        (folder / "text_table.memmap").unlink()
        encode(folder, *words)

    with monkeypatch.context() as patch:
        patch.setattr(finish, "_put_texts", removes)
        assert "text_table.memmap was removed while this extraction was at work" in one_error(case.go_on(run_script))
    assert case.go_on(run_script).code == 3
    assert content(case.place) == case.whole
    shutil.rmtree(case.place)


def test_rows_of_zeros_that_were_made_so_are_no_holes(run_script, cases, monkeypatch):
    monkeypatch.setattr("mmaudio.features.backend.encode_sync", lambda frames: torch.zeros(len(frames), 16, 768))
    case = cases(run_script, "video", "compact", False)
    with monkeypatch.context() as patch:
        dies_at(patch, RowWriter, "keep", 4)
        assert case.go_on(run_script).code == 130
    ended = case.go_on(run_script)
    assert (ended.code, "again" in ended.out, "4 of 6 inputs were done before" in ended.out) == (3, False, True), ended.err
    shutil.rmtree(case.place)
