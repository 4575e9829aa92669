"""`mmaudio report` finds what runs left, shows several beside each other, and says what cannot be."""

import json
import shlex
import shutil

import pytest

from mmaudio.files.locks import hold_target
from tests.report.pages import Page, row, scores, write_scores, write_tone

SWEEP = {"sigmas": [0.1, 0.2], "losses": [1.0, 0.9], "fit_errors": [0.0, 0.0], "best": {"sigma": 0.2, "loss": 0.9}, "live": None}


def make_run(folder, *, with_files=True, duration_s=1.0, name="scores.json"):
    rows = []
    for index, clip_id in enumerate(("x", "é.b")):
        files = {"generated_file": write_tone(folder / "samples" / f"{clip_id}.flac", 300 + 100 * index)}
        files["reference_file"] = write_tone(folder.parent / "real" / f"{clip_id}.flac", 350)
        rows.append(row(clip_id, f1=0.3 + index / 10, **({key: str(path) for key, path in files.items()} if with_files else {})))
    write_scores(folder / name, scores(rows, duration_s=duration_s))
    (folder / "metrics.jsonl").write_text('{"steps_done": 5, "train/loss": 1.5}\n')
    (folder / "ema_sweep.json").write_text(json.dumps(SWEEP))
    return folder


def test_a_run_alone_needs_no_options(run_command, tmp_path):
    run = make_run(tmp_path / "birds")
    ended = run_command("report", run)
    index, said = run / "report" / "index.html", ended.out
    assert ended.code == 0, ended.err
    assert f"page: {index}\n" in said and "1 run, 2 samples" in said and "not there" not in said
    page = Page(index)
    assert {"Metrics", "Training", "Averages of weights", "Samples", "x", "é.b"} <= set(page.texts)
    assert [button["data-label"] for button in page.named("button", "hear")][:2] == ["real", "generated"]
    assert all((index.parent / file).is_file() for file in page.files)
    assert run_command("report", run).code == 0, "the page is made anew where it stands"


def test_runs_stand_beside_each_other(run_command, tmp_path):
    runs = [make_run(tmp_path / name) for name in ("birds", "birds_v2")]
    assert run_command("report", *runs, "--output", tmp_path / "page", "--num_samples", 1).code == 0
    page = Page(tmp_path / "page" / "index.html")
    assert [button["data-label"] for button in page.named("button", "hear")] == ["real", "birds", "birds_v2"]
    assert "birds and birds_v2" in page.texts
    assert {"birds · train", "birds_v2 · train"} <= set(page.texts)
    assert "not scored alike" not in "".join(page.texts)
    make_run(tmp_path / "birds_v2", duration_s=0.5)
    run_command("report", *runs, "--output", tmp_path / "page")
    assert "These columns were not scored alike" in Page(tmp_path / "page" / "index.html").texts


def test_files_that_are_gone_are_counted_and_the_page_is_made(run_command, tmp_path):
    run = make_run(tmp_path / "birds")
    (run / "samples" / "x.flac").unlink()
    ended = run_command("report", run)
    assert ended.code == 0
    assert "1 of the sounds and pictures are not there" in ended.out
    assert "sample x: the sound 'generated' is gone" in ended.out, "it is logged"
    assert any("there is no file" in text for text in Page(run / "report" / "index.html").texts)


def test_scores_that_say_nothing_of_files_take_folders(run_command, tmp_path):
    run = make_run(tmp_path / "birds", with_files=False)
    run_command("report", run)
    page = Page(run / "report" / "index.html")
    assert page.named("li", "card") == []
    assert any(text.startswith("No samples are shown") for text in page.texts)
    run_command("report", run, "--samples", run / "samples", "--reference", tmp_path / "real")
    assert len(Page(run / "report" / "index.html").named("figure", "track")) == 4


def test_a_run_that_has_only_begun_has_a_page(run_command, tmp_path):
    (tmp_path / "run").mkdir()
    ended = run_command("report", tmp_path / "run")
    assert (ended.code, "holds no run and no scores" in ended.err) == (2, True)
    (tmp_path / "run" / "config.yaml").write_text("")
    assert run_command("report", tmp_path / "run").code == 0
    assert Page(tmp_path / "run" / "report" / "index.html").named("section") == []


def test_mistakes_are_told_all_at_once(run_command, tmp_path):
    run = make_run(tmp_path / "birds")
    wrong = ("--samples", "s", "--scores", "t.json", "--num_samples", -1, "--reference", tmp_path)
    ended = run_command("report", run, "nowhere", *wrong)
    assert (ended.code, ended.err.count("\n")) == (2, 5)
    assert "no run at nowhere" in ended.err
    assert "--samples, --reference, --scores with 2 runs: these are of one run" in ended.err
    assert "--samples is s, which is not a folder" in ended.err and "--scores is t.json, which is not a file" in ended.err
    assert "--num_samples is -1" in ended.err
    ended = run_command("report", run, f"{run}/../birds")
    assert ended.code == 2 and "a run is named twice" in ended.err
    (run / "ema_sweep.json").write_text("{}")
    ended = run_command("report", run)
    assert ended.code == 2 and "is no sweep over averages" in ended.err
    assert not (run / "report").exists()


def foreign_page(folder, kind, ours):
    """A folder that is no page of ours, though it is called like one and may hold one."""
    (folder / "media").mkdir(parents=True)
    (folder / "index.html").write_bytes(ours.read_bytes() if kind != "foreign page" else b"<title>mine</title>")
    for path in (ours.parent / "media").iterdir():
        shutil.copy(path, folder / "media")
    first = sorted((folder / "media").iterdir())[0]
    if kind == "no index":
        (folder / "index.html").unlink()
    elif kind == "edited page":
        (folder / "index.html").write_text((folder / "index.html").read_text().replace("<h1>", "<p>my notes</p><h1>"))
    elif kind == "unmarked page":  # of 0.1.0
        text = (folder / "index.html").read_text().split("\n")
        (folder / "index.html").write_text("\n".join(line for line in text if 'name="generator"' not in line))
    elif kind == "edited medium":
        first.write_bytes(b"my own")
    elif kind == "another medium":
        (folder / "media" / "holiday.wav").write_text("mine")
    elif kind == "another file":
        (folder / "notes.txt").write_text("mine")
    elif kind == "linked media":
        (folder / "media").rename(folder.parent / "my media")
        (folder / "media").symlink_to(folder.parent / "my media")
    elif kind == "another folder":
        (folder / "media" / "below").mkdir()
    elif kind == "file":
        shutil.rmtree(folder)
        folder.write_text("mine")


def content(folder):
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    return {path: path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None for path in paths}


KINDS = ["foreign page", "no index", "edited page", "unmarked page", "edited medium", "another medium", "another file", "linked media"]


@pytest.mark.parametrize("kind", [*KINDS, "another folder", "file", "of another place"])
def test_a_folder_that_is_no_page_is_not_replaced(run_command, tmp_path, kind):
    run = make_run(tmp_path / "birds")
    page = tmp_path / "my pages" / "page"
    place = page if kind != "of another place" else tmp_path / "other"
    assert run_command("report", run, "--output", tmp_path / "page").code == 0
    foreign_page(place, kind, tmp_path / "page" / "index.html")
    before = content(place)
    ended = run_command("report", run, "--output", place)
    assert ended.code == 2 and "was not made by this program" in ended.err and "give --replace" in ended.err
    assert f"mv {shlex.quote(str(place))} {shlex.quote(f'{place}.aside')}" in ended.err
    assert content(place) == before
    ended = run_command("report", run, "--output", place, "--replace")
    aside = place.with_name(f"{place.name}.aside")
    assert ended.code == 0 and f"is now {aside}" in ended.out
    assert {aside / path.relative_to(place) if path != place else aside: what for path, what in before.items()} == content(aside)
    assert run_command("report", run, "--output", place).code == 0, "it is ours now"


def test_a_page_behind_a_link_stays_there(run_command, tmp_path):
    run = make_run(tmp_path / "birds")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "far" / "away").mkdir(parents=True)
    for place in ("link", "link", "far/away"):
        ended = run_command("report", run, "--output", tmp_path / place)
        assert ended.code == 0, ended.err
    assert (tmp_path / "link").is_symlink() and len(list((tmp_path / "far").iterdir())) == 1


def test_one_job_at_a_time_writes_a_page(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr("mmaudio.files.locks.PATIENCE_S", 0.0)
    run = make_run(tmp_path / "birds")
    with hold_target(tmp_path / "page", "it"):
        ended = run_command("report", run, "--output", tmp_path / "page")
    assert ended.code == 2 and f"another job is writing the page {tmp_path / 'page'}: process" in ended.err
    assert not (tmp_path / "page").exists()
