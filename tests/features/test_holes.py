"""Columns of work under way that are removed, cut or begun anew: whatever the stage, the store is that of an undisturbed extraction."""

import os
import re
import shutil
import subprocess
from functools import cache

import pytest

from mmaudio.base.tables import write_table
from mmaudio.features import extract as extraction
from mmaudio.features import finish
from mmaudio.features.recorder import Recorder
from mmaudio.features.workspace import Workspace
from mmaudio.media.audio import write_flac
from mmaudio.media.example import draw_bounces, render_frames, render_sound
from mmaudio.media.write import write_video
from tests.features.test_extract import AUDIO_SCRIPT, LITE, VIDEO_SCRIPT, content

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
    keep, kept = Recorder.keep, []

    def keep_one(recorder, number, row, stamp=None):
        kept.extend([number] if "text_table" in row else [])
        return dies() if len(kept) == 2 else keep(recorder, number, row, stamp)

    patch.setattr(Recorder, "keep", keep_one)


STAGES = {
    "rows under way": lambda patch: dies_at(patch, Recorder, "keep", 4),
    "rows final": lambda patch: patch.setattr(extraction, "_do_captions", dies),
    "captions under way": dies_in_captions,
    "captions done": lambda patch: patch.setattr(extraction, "finish", dies),
    "gaps being closed": lambda patch: dies_at(patch, finish, "close_gaps", 2),
    "gaps closed": lambda patch: patch.setattr(finish, "_put_texts", dies),
    "texts put": lambda patch: patch.setattr(finish, "_moments", dies),
    "columns in place": lambda patch: patch.setattr(finish, "write_sidecars", dies),
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
