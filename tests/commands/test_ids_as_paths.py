"""Ids of every shape through every writer of files and every reader of a table: nothing is written or read outside the folder that was
named, and every id is found again."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.specs import AudioSpec
from mmaudio.batches import Mixture, Source
from mmaudio.checkpoints.run_files import WeightsRecord
from mmaudio.checkpoints.save import save_file
from mmaudio.clips import clip_tables as captions_table
from mmaudio.clips import clip_tables as clips_table
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation import training_stages as previews
from mmaudio.evaluation.sampling import begin_folder, with_reference
from mmaudio.evaluation.sets import EvalSet, read_set
from mmaudio.extraction.inputs import Input, Inputs, find_audio_clips, find_videos
from mmaudio.features import build_backend
from mmaudio.files.file_names import file_name, file_of, given_path, ids_by_file, is_escaping
from mmaudio.files.owned_files import read_ids
from mmaudio.files.tables import write_table
from mmaudio.generate.jobs import GenerationJob, GenerationOptions
from mmaudio.generate.requests import read_lines
from mmaudio.generate.sampler import SampleSettings
from mmaudio.media.audio import write_flac
from mmaudio.media.sample_marks import sample_mark
from mmaudio.media.suffixes import SOUND_SUFFIXES, VIDEO_SUFFIXES, FolderIndex, files_by_id, find_file
from mmaudio.metrics.sound_scores import pair_ids
from mmaudio.network import build_network
from mmaudio.settings.data_sources import EvalSetSettings
from mmaudio.store import Store
from tests.media.made_videos import make_video
from tests.shapes_of_ids import all_ids, shapes
from tests.trainer.tiny_stores import DURATION_S, TINY, data_overrides, write_tiny_data, write_tiny_store

RATE_HZ = 16_000
SCRIPT = "training/extract_video_training_latents.py"
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 1.0)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A user's own media, which the ids of shapes lead to from elsewhere. They have to be what they were."""
    folder = tmp_path.resolve() / "outside"
    folder.mkdir()
    for name in ("absolute", "up"):
        wave = np.sin(np.arange(2 * RATE_HZ) / 10).astype(np.float32)
        soundfile.write(folder / f"{name}.flac", wave, RATE_HZ)
        make_video(folder / f"{name}.mp4", 1.2, wave=wave)
    before = files_below(folder)
    yield folder
    assert files_below(folder) == before


def written_below(tmp_path: Path, folder: Path, work: Callable[[], Any]) -> Any:
    """What some work returns that has to write below a folder alone."""
    before = files_below(tmp_path)
    made = work()
    after = files_below(tmp_path)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert [name for name in changed if not (tmp_path / name).is_relative_to(folder)] == []
    return made


def check_names(folder: Path, ids: list[str]) -> None:
    """The sounds in a folder are those of these ids, each under its own name, which `samples.json` takes back to the id."""
    names = {name for name in files_below(folder) if name.endswith(".flac")}
    assert names == {file_name(name_id, ".flac") for name_id in ids} and len(names) == len(set(ids))
    assert {name: name_id for name, name_id in read_ids(folder).items() if name.endswith(".flac")} == ids_by_file(ids, ".flac")


@pytest.fixture
def silent() -> SimpleNamespace:
    """A backend that makes every latent a short sound."""
    return SimpleNamespace(
        name="lite",
        weights={},
        device=torch.device("cpu"),
        spec=AudioSpec("16k", DURATION_S),
        decode=lambda x: torch.ones(len(x), 4000) / 9,
    )


# ---- writers


def test_sounds_of_stored_rows(tmp_path, outside, silent):
    ids = all_ids(outside)
    store = write_tiny_store(tmp_path / "data", "odd", "audio", len(ids), ids=ids)
    rows = Mixture([Source.open("odd", Path(f"{store}.tsv"), store)], silent.spec)
    assert rows.sources[0].store.ids == ids  # a store that stands may have any
    chosen, folder = EvalSet("odd", dict(zip(ids, rows.sources[0].store.captions, strict=True)), rows=rows), tmp_path / "run" / "reference"
    found = written_below(tmp_path, folder, lambda: with_reference(chosen, silent, folder, 16, Ranks(), of="run/reference"))
    check_names(folder, ids)
    assert found.sounds == {name_id: file_of(folder, name_id, ".flac") for name_id in ids}
    pairing = pair_ids(folder, found.sounds)
    assert (pairing.paired, pairing.missing, pairing.unexpected) == (sorted(ids), [], [])
    before = files_below(folder)
    with_reference(chosen, silent, folder, 16, Ranks(), of="run/reference")
    assert files_below(folder) == before  # all of it is known again
    pairing = pair_ids(folder, ids[:1])
    assert set(pairing.unexpected) == {name_id for name_id in ids[1:] if not file_name(name_id).startswith(".hidden/")}


def test_what_is_made_anew_takes_sounds_in_folders_along(tmp_path):
    for step in (1, 2):
        begin_folder(tmp_path, {"step": step}, ["street/rain", "wind"], of="run/set", keeps=True)
        assert sorted(files_below(tmp_path)) == ["samples.json"]
        for name in ("street/rain.flac", "wind.flac"):
            write_flac(tmp_path / name, np.zeros(800), 16_000, sample_mark("run/set", id=name.removesuffix(".flac")))
    begin_folder(tmp_path, {"step": 2}, ["bird"], of="run/set", keeps=True)  # a set may grow
    assert read_ids(tmp_path) == {"bird.flac": "bird", "street/rain.flac": "street/rain", "wind.flac": "wind"}
    assert json.loads((tmp_path / "samples.json").read_text())["step"] == 2 and len(files_below(tmp_path)) == 3
    for ids, sentence in (
        (["wind.flac/a"], "the file of the id 'wind' would be where the folder of 'wind.flac/a' is"),
        (["samples.json/a"], "the folder of the id 'samples.json/a' would be where the file samples.json is"),
    ):
        with pytest.raises(UserError, match=sentence):
            begin_folder(tmp_path, {"step": 2}, ids, of="run/set", keeps=True)
    assert len(files_below(tmp_path)) == 3


def test_previews(tmp_path, outside, silent):
    def write() -> None:
        for number, name_id in enumerate(all_ids(outside)):
            for name in ("real", "000000001"):
                previews._write(
                    silent,
                    tmp_path / "runs" / str(number) / name,
                    SimpleNamespace(ids=[name_id]),
                    torch.zeros(1, 1, 1),
                    f"run/previews/{name}",
                )

    written_below(tmp_path, tmp_path / "runs", write)
    for number, name_id in enumerate(all_ids(outside)):
        for name in ("real", "000000001"):
            folder = tmp_path / "runs" / str(number) / name
            assert [path for path in files_below(folder) if path.endswith(".flac")] == [file_name(name_id, ".flac")]
            is_plain = file_name(name_id, ".flac") == f"{name_id}.flac" and "/" not in name_id
            assert read_ids(folder) == ({} if is_plain else ids_by_file([name_id], ".flac"))


def test_samples_of_prompts_and_videos_have_their_places_below_the_folder(tmp_path, outside):
    wishes = GenerationOptions(tmp_path / "out", 1.0, SampleSettings())
    jobs = [GenerationJob(name_id, "", video=Path("x.mp4")) for name_id in all_ids(outside)]
    for place in (wishes.sound_of, wishes.video_of):
        places = [place(job) for job in jobs]
        assert all(path.is_relative_to(wishes.output_dir) and ".." not in path.parts for path in places)
        assert len(set(places)) == len(jobs)
    assert set(wishes.files_of(jobs).values()) == {job.name for job in jobs} and len(wishes.files_of(jobs)) == 2 * len(jobs)


# ---- readers of tables


def tsv(columns: tuple[str, ...], fields: Callable[[str], tuple[str, ...]]) -> Callable[[Path, str], None]:
    return lambda path, name_id: write_table(path, columns, [fields("plain"), fields(name_id)])


def comma_separated(header: list[str], fields: Callable[[str], list[str]]) -> Callable[[Path, str], None]:
    def write(path: Path, name_id: str) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([*([header] if header else []), fields("plain"), fields(name_id)])

    return write


def vgg_sound(path: Path) -> list[str]:
    """The clips of a set of videos, whose ids have the second at their end, and those without a video."""
    (path.parent / "media").mkdir(exist_ok=True)
    (path.parent / "media" / "plain_000001.mp4").touch()
    given = EvalSetSettings("vggsound", csv_path=str(path), video_path=str(path.parent / "media"))
    chosen = read_set("v", "v", given)
    return [name.removesuffix("_000001") for name in (*chosen.captions, *chosen.absent)]


TABLES: dict[str, tuple[Callable[[Path, str], None], Callable[[Path], list[str]]]] = {
    "videos": (
        tsv(("id", "label"), lambda name_id: (name_id, "x")),
        lambda path: [video.id for video in clips_table.read_videos(path)],
    ),
    "captions of recordings": (tsv(("id", "caption"), lambda name_id: (name_id, "x")), lambda path: [*clips_table.read_captions(path)]),
    "clips": (
        tsv(("id", "name", "start_sample", "end_sample"), lambda name_id: (name_id, "x", "0", "9")),
        lambda path: [clip.id for clip in clips_table.read_clips(path)],
    ),
    "recordings of clips": (
        tsv(("id", "name", "start_sample", "end_sample"), lambda name_id: ("x", name_id, "0", "9")),
        lambda path: [clip.name for clip in clips_table.read_clips(path)],
    ),
    "captions": (tsv(("id", "label"), lambda name_id: (name_id, "x")), lambda path: [*captions_table.read_captions(path)]),
    "a set": (
        tsv(("id", "caption"), lambda name_id: (name_id, "x")),
        lambda path: [*read_set("t", "t", EvalSetSettings(tsv=str(path))).captions],
    ),
    "AudioCaps": (
        comma_separated(["name", "caption"], lambda name_id: [name_id, "x"]),
        lambda path: [*read_set("a", "a", EvalSetSettings("audiocaps", csv_path=str(path))).captions],
    ),
    "VGGSound": (comma_separated([], lambda name_id: [name_id, "1", "x", "test"]), vgg_sound),
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_refused_for_ids_that_lead_out_and_read_for_others(tmp_path, outside, table):
    write, read = TABLES[table]
    path = tmp_path / "given.table"
    for shape in shapes(outside):
        for name_id in shape.ids:
            write(path, name_id)
            if not is_escaping(f"{name_id}_000001" if table == "VGGSound" else name_id):
                assert sorted(read(path)) == sorted(["plain", name_id])
                continue
            with pytest.raises(UserError, match=r"given\.table has 1 ids that are absolute paths or hold '\.\.' or NUL \(") as told:
                read(path)
            assert len(told.value.sentences) == 1


@pytest.mark.parametrize("name", ["/abs/x", "../x", "..", "a/../b", "nul\0byte", "a/b", ""])
def test_names_of_lines_are_plain(tmp_path, name):
    (tmp_path / "in.jsonl").write_text(json.dumps({"prompt": "x", "name": name}) + "\n" + json.dumps({"prompt": "x", "name": "\ud800"}))
    with pytest.raises(UserError, match="line 1: name is"):
        read_lines(tmp_path / "in.jsonl", "")


def test_a_table_of_clips_is_not_written_with_such_ids(tmp_path):
    with pytest.raises(UserError, match="has 1 ids that are absolute paths"):
        clips_table.write_clips(tmp_path / "clips.tsv", [clips_table.AudioClip("../x_0", "x", 0, 9)])
    assert not list(tmp_path.iterdir())


def test_all_that_is_wrong_with_tables_is_told_at_once(tmp_path, outside):
    (tmp_path / "media").mkdir()
    write_table(tmp_path / "captions.tsv", ("id", "caption"), [("/x", "x"), ("y", "y"), ("../z", "z")])
    write_table(tmp_path / "clips.tsv", ("id", "name", "start_sample", "end_sample"), [("a", "../up", "0", "9"), ("b", "b", "9", "0")])
    with pytest.raises(UserError) as told:
        find_audio_clips(tmp_path / "media", tmp_path / "captions.tsv", tmp_path / "clips.tsv")
    sentences = "\n".join(told.value.sentences)
    assert "captions.tsv has 2 ids" in sentences and "('/x', '../z')" in sentences
    assert "clips.tsv, row 2 (id 'b')" in sentences and "clips.tsv has 1 ids" in sentences


# ---- readers of media


def test_media_of_an_id_are_those_in_the_folder(tmp_path, outside):
    ids, folder = all_ids(outside), tmp_path / "in" / "media"
    folder.mkdir(parents=True)
    for name in ("up", "b", "absolute"):
        shutil.copy(outside / "up.mp4", folder.parent / f"{name}.mp4")
    assert files_by_id(folder, ids, VIDEO_SUFFIXES) == {}
    assert [find_file(folder, name_id, SOUND_SUFFIXES) for name_id in ids] == [None] * len(ids)
    for name_id in ids:
        place = file_of(folder, name_id, ".mp4")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(outside / "up.mp4", place)
    assert files_by_id(folder, ids, VIDEO_SUFFIXES) == {name_id: file_of(folder, name_id, ".mp4") for name_id in ids}
    assert [find_file(folder, name_id, SOUND_SUFFIXES) for name_id in ids] == [file_of(folder, name_id, ".mp4") for name_id in ids]


def test_paths_within_a_folder_are_followed_as_before(tmp_path):
    for name in ("a", "street/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.MP4").touch()
    index = FolderIndex(tmp_path, VIDEO_SUFFIXES)
    assert [index.find(name_id) for name_id in ("./a", "street//b", "street/./b")] == ["a.MP4", "street/b.MP4", "street/b.MP4"]
    assert [index.find(name_id) for name_id in ("street/../a", "/a", str(tmp_path / "a"), "a/", "", ".")] == [None] * 6


def test_a_sound_is_of_one_id(tmp_path):
    for name in ("a.flac", "b.FLAC", "deep/b.wav", "..._.flac", "....flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    pairing = pair_ids(tmp_path, ["a", "./a", "./b", "...", "../a"])
    assert {name_id: path.name for name_id, path in pairing.generated.items()} == {
        "a": "a.flac",
        "./b": "b.FLAC",
        "...": "....flac",
        "deep/b": "b.wav",
        "..._": "..._.flac",
    }
    assert (pairing.missing, pairing.unexpected) == (["../a", "./a"], ["..._", "deep/b"])
    (tmp_path / "deep" / "b.flac").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds both deep/b\.flac and deep/b\.wav; keep one sound for each id"):
        pair_ids(tmp_path, ["a"])


def test_rows_of_a_store_are_compared_with_media_in_the_folder(run_command, tmp_path, outside):
    ids = [f"{outside}/absolute", "../up", "street/rain"]
    store = write_tiny_store(tmp_path / "data", "odd", "video", len(ids), ids=ids)
    (tmp_path / "in" / "media" / "street").mkdir(parents=True)
    shutil.copy(outside / "up.mp4", tmp_path / "in" / "up.mp4")
    shutil.copy(outside / "up.mp4", tmp_path / "in" / "media" / "street" / "rain.mp4")
    inputs = find_videos(tmp_path / "in" / "media", Path(f"{store}.tsv"), of_store=True)
    assert [(item.id, item.file) for item in inputs.items] == [("street/rain", "street/rain.mp4")] and len(inputs.rejects) == 2
    words = ("--sample", len(ids), "--data_dir", tmp_path / "in" / "media", "--backend", "lite", "--device", "cpu")
    ended = run_command("store", "verify", store, *words)
    assert ended.out.count("its media cannot be read") == len(ids) - 1 and "no such file in" in ended.out


def test_what_an_extraction_was_begun_with_does_not_lead_out(outside):
    inputs = Inputs("video", outside.parent, [Input("a", "x", "a.mp4"), Input("b", "x", "b.mp4")], [])
    begun = inputs.begun_with({"a": "outside/../../a.mp4", "b": "street/b.mov"})
    assert [item.file for item in begun.items] == ["a.mp4", "street/b.mov"]


# ---- commands


def test_videos_in_folders_are_extracted(run_script, tmp_path, outside):
    for name in ("street/rain", "🎈"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(outside / "up.mp4", tmp_path / "in" / f"{name}.mp4")
    places = ("--data_dir", tmp_path / "in", "--name", "s", "--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "out")
    write_table(tmp_path / "set.tsv", ("id", "label"), [("street/rain", "x"), ("🎈", "y")])
    ended = run_script(SCRIPT, *places, "--tsv", tmp_path / "set.tsv", *LITE)
    assert ended.code == 0, ended.err
    assert Store.open(tmp_path / "out" / "s.tsv", tmp_path / "out" / "s").ids == ["street/rain", "🎈"]
    ids = all_ids(outside, refused=True)
    write_table(tmp_path / "set.tsv", ("id", "label"), [(name_id, "x") for name_id in ["street/rain", *ids]])
    before = files_below(tmp_path)
    ended = run_script(SCRIPT, *places, "--tsv", tmp_path / "set.tsv", "--replace", *LITE)
    assert ended.code == 2 and f"set.tsv has {len(ids)} ids that are absolute paths or hold '..' or NUL (" in ended.err
    assert files_below(tmp_path) == before


def words_for(data: Path) -> list[str]:
    words = [word for word in data_overrides(data) if not word.startswith(("data.val", "data.test"))]
    odd = [f"data.odd.tsv={data}/odd.tsv", f"data.odd.memmap_dir={data}/odd", "data.val=[odd]", "data.test=[odd]"]
    return [*TINY, *words, *odd, "exp_id=one", "sampling.num_steps=1", "num_iterations=1", "eval_interval=1", "log_extra_interval=1"]


def train_on(ids: list[str], tmp_path: Path, run_script: Any, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """The folder of a run whose held-out rows have these ids, evaluated on its way."""
    data, work = write_tiny_data(tmp_path / "data"), tmp_path / "work"
    write_tiny_store(data, "odd", "video", len(ids), ids=ids)
    work.mkdir()
    monkeypatch.chdir(work)
    ended = written_below(tmp_path, work / "output", lambda: run_script("train.py", *words_for(data), *more))
    assert ended.code == 0, ended.err
    run = work / "output" / "one"
    for folder in (run / "val" / "val-cache", run / "val" / "reference"):
        check_names(folder, ids)
    assert json.loads((run / "val" / "val-cache" / "scores.json").read_text())["counts"]["paired"] == len(ids)
    heard = [name for name in files_below(run / "previews") if name.endswith(".flac")]
    assert heard == sorted(f"{step}/{file_name(ids[0], '.flac')}" for step in ("000000000", "000000001", "real"))
    return run


def test_a_store_with_such_ids_trains_and_is_evaluated(run_script, tmp_path, outside, monkeypatch):
    train_on([f"{outside}/absolute", "street/rain"], tmp_path, run_script, monkeypatch, "evaluate.test=False")


@pytest.mark.slow
def test_all_ids_are_sampled_scored_and_shown(run_script, run_command, tmp_path, outside, monkeypatch):
    ids = all_ids(outside)
    run = train_on(ids, tmp_path, run_script, monkeypatch, "evaluate.test=False")
    ended = written_below(tmp_path, run, lambda: run_script("evaluate.py", "exp_id=one"))
    assert ended.code == 0, ended.err
    check_names(run / "test-sampled", ids)
    scores = json.loads((run / "test-output_metrics.json").read_text())
    assert (scores["counts"]["paired"], scores["counts"]["unexpected_ids"], scores["failed"]) == (len(ids), [], [])
    for row in scores["clips"]:
        row.update(generated_file=None, reference_file=None)
    (run / "bare.json").write_text(json.dumps(scores))
    places = ("--samples", run / "test-sampled", "--reference", run / "test-reference", "--scores", run / "bare.json")
    page = ("report", run, *places, "--num_samples", len(ids), "--output", tmp_path / "page")
    ended = written_below(tmp_path, tmp_path / "page", lambda: run_command(*page))
    assert ended.code == 0 and f"{len(ids)} samples" in ended.out and "are not there" not in ended.out
    kept = sorted(all_ids(outside, refused=False))
    write_table(tmp_path / "asked.tsv", ("id", "caption"), [(name_id, "x") for name_id in kept])
    words = ("--generated", run / "test-sampled", "--reference", run / "test-reference")
    for more, num in ((["--captions", tmp_path / "asked.tsv"], len(kept)), ([], len(ids))):
        ended = run_command("evaluate", *words, *more, "--output", tmp_path / "scores.json")
        counts = json.loads((tmp_path / "scores.json").read_text())["counts"]
        assert ended.code == 0 and counts["paired"] == counts["reference"] == num - (0 if more else 1), (
            ended.err
        )  # `.hidden/` is not listed


@pytest.mark.slow
def test_videos_of_all_ids_get_their_sound(run_command, tmp_path, tmp_path_factory, outside):
    weights = tmp_path_factory.mktemp("weights") / "some.pth"
    null = build_backend("lite", "16k").encode_text([""])[0]
    network = build_network("nano_16k", duration_s=1.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20), empty_string_feat=null)
    save_file(weights, network.state_dict(), WeightsRecord("nano_16k", "16k", 1.0, "lite", 0, "world"))
    media, out = tmp_path / "in" / "media", tmp_path / "out"
    ids = [name_id for name_id in all_ids(outside, refused=False) if name_id]  # a sample without a name is called by its prompt
    for name_id in ids:
        is_path = given_path(name_id) is not None and len(name_id.encode()) < 200
        place = media / f"{given_path(name_id)}.mp4" if is_path else file_of(media, name_id, ".mp4")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(outside / "up.mp4", place)
    words = ("generate", "--weights", weights, "--device", "cpu", "--num_steps", 1, "--video", media, "--captions")

    def generate(*rows: str) -> Any:
        write_table(tmp_path / "set.tsv", ("id", "label"), [(name_id, "x") for name_id in rows])
        return written_below(tmp_path, out, lambda: run_command(*words, tmp_path / "set.tsv", "--output", out))

    assert generate("...", "e").code == 2  # one of them has no video
    assert not out.exists()
    assert generate("..", "nul\0", "/x").code == 2
    assert not out.exists()
    assert generate(*ids[:20]).code == 0
    assert generate(*ids[20:]).code == 0  # into the same folder
    check_names(out, ids)
    assert len(read_ids(out)) == 2 * len(ids) == len(files_below(out)) - 1
    assert generate("clip", "clip.flac/x").code == 2
    ended = run_command("evaluate", "--generated", out, "--reference", media, "--captions", tmp_path / "set.tsv", "--min_coverage", 0)
    assert ended.code == 2 and "holds no" in ended.err
