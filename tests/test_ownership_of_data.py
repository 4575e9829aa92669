"""Every writer, with somebody else's file or folder under each name it writes: refused before any work, and not a byte changed.

And with links: what they lead to is replaced, the links stay, twice in a row.
"""

import json
import os
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from mmaudio.clips.clip_tables import read_clips, read_rejects
from mmaudio.files.owned_files import record_beside
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.store import record_path, table_path
from tests.store.examples import index_of, make_store, open_store

NOT_OURS = "was not made by this program"
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 1.0)


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """All that is in a folder: the bytes of files, and where links lead."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def put(path: Path, what: str) -> None:
    """Somebody else's file, folder, or link to a file of theirs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "file":
        path.write_text("id\tcaption\nmine\tyears of work\n")
    elif what == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("years of work")
    else:
        (path.parent / "their").mkdir(exist_ok=True)
        (path.parent / "their" / "file").write_text("years of work")
        path.symlink_to(path.parent / "their" / "file")


# ---- partition


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    write_flac(folder / "long.flac", render_sound(draw_bounces(5, "long", 1, 2.5), 16_000), 16_000)
    (folder / "broken.flac").write_bytes(b"no sound")
    return folder


def partition(run_script, recordings, output, *more):
    return run_script("training/partition_clips.py", "--data_dir", recordings, "--output_dir", output, "--clip_length", 1, *more)


CLIPS_NAMES = ("clips.tsv", "clips.failed.tsv", "clips.tsv.mark.json", "clips.failed.tsv.mark.json")


@pytest.mark.parametrize("name", CLIPS_NAMES)
@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_partition_replaces_nothing_of_others(run_script, recordings, tmp_path, name, what):
    put(tmp_path / name, what)
    before = snapshot(tmp_path)
    ended = partition(run_script, recordings, tmp_path)
    assert (ended.code, ended.err.count("error: ")) == (2, 1)
    assert f"{tmp_path / name} {NOT_OURS}" in ended.err and f"mv {tmp_path / name} {tmp_path / name}.aside" in ended.err
    assert snapshot(tmp_path) == before
    for _ in range(2):
        assert partition(run_script, recordings, tmp_path, "--replace").code == 3
    assert len(read_clips(tmp_path / "clips.tsv")) == 2 and len(read_rejects(tmp_path / "clips.failed.tsv")) == 1
    kept = tmp_path / f"{name}.aside"
    assert "years of work" in (kept / "thesis.txt" if what == "folder" else kept).read_text()
    assert (tmp_path / name).is_symlink() == (what == "link")
    assert len(list(tmp_path.glob("*.aside*"))) == 1


def test_a_table_of_clips_that_its_user_edited_is_theirs(run_script, recordings, tmp_path):
    for _ in range(2):
        assert partition(run_script, recordings, tmp_path).code == 3
    whole = (tmp_path / "clips.tsv").read_text()
    (tmp_path / "clips.tsv").write_text(whole.replace("long_1", "my long one"))
    before = snapshot(tmp_path)
    ended = partition(run_script, recordings, tmp_path)
    assert ended.code == 2 and "it was changed after this program had written it" in ended.err
    assert snapshot(tmp_path) == before
    (tmp_path / "clips.tsv").write_text(whole)
    assert partition(run_script, recordings, tmp_path, "--overlap", 0.5).code == 3
    record_beside(tmp_path / "clips.failed.tsv").unlink()
    assert partition(run_script, recordings, tmp_path).code == 2, "as the version before left it"


def kill_at(patch: pytest.MonkeyPatch, most: int, folder: Path) -> None:
    """Let the process end before change number `most` of a name in the folder."""
    left = most

    def dies(change):
        def before(*words, **options):
            nonlocal left
            if str(words[0]).startswith(str(folder)):
                left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return change(*words, **options)

        return before

    for name in ("rename", "replace", "unlink", "symlink"):
        patch.setattr(os, name, dies(getattr(os, name)))


def test_a_kill_between_a_table_and_its_record_leaves_both_ours(run_script, recordings, tmp_path, monkeypatch):
    assert partition(run_script, recordings, tmp_path).code == 3
    for most in range(5):
        with monkeypatch.context() as patch:
            kill_at(patch, most, tmp_path)
            code = partition(run_script, recordings, tmp_path, "--overlap", 0.1 * (most + 1)).code
        assert code == (130 if most < 4 else 3)
        assert partition(run_script, recordings, tmp_path).code == 3


@pytest.mark.parametrize("how", ["folder", "table"])
def test_partition_through_links_twice(run_script, recordings, tmp_path, how):
    (tmp_path / "real").mkdir()
    if how == "folder":
        (tmp_path / "out").symlink_to(tmp_path / "real")
    else:
        (tmp_path / "out").mkdir()
        for name in ("clips.tsv", "clips.failed.tsv"):
            (tmp_path / "out" / name).symlink_to(tmp_path / "real" / name)
    for _ in range(2):
        assert partition(run_script, recordings, tmp_path / "out").code == 3
        assert len(read_clips(tmp_path / "real" / "clips.tsv")) == 2
        assert len(read_rejects(tmp_path / "real" / "clips.failed.tsv")) == 1
    links = [tmp_path / "out"] if how == "folder" else [tmp_path / "out" / name for name in ("clips.tsv", "clips.failed.tsv")]
    assert all(path.is_symlink() for path in links)


# ---- converted stores


def convert(run_command, source, output, *more):
    return run_command("store", "convert", source, output, "--layout", "published", *more)


STORE_NAMES = ("s", "s.tsv", "s.json", "s.empty_string.pth")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    make_store(folder, "from", "audio")
    return folder / "from"


@pytest.mark.parametrize("name", STORE_NAMES)
@pytest.mark.parametrize("what", ["file", "folder", "link"])
@pytest.mark.parametrize("has_store", [False, True])
def test_convert_replaces_nothing_of_others(run_command, source, tmp_path, name, what, has_store):
    out, place = tmp_path / "s", tmp_path / name
    if has_store:
        for _ in range(2):
            assert convert(run_command, source, out).code == 0
        rmtree(place) if place.is_dir() else place.unlink()
    put(place, what)
    before = snapshot(tmp_path)
    ended = convert(run_command, source, out)
    assert ended.code == 2
    assert f"{place} {NOT_OURS}" in ended.err
    assert snapshot(tmp_path) == before
    for _ in range(2):
        ended = convert(run_command, source, out, "--replace")
        assert ended.code == 0, ended.err
        assert open_store(tmp_path, "s").ids == [row_id for row_id, _ in index_of(5)]
    assert place.is_symlink() == (what == "link")
    kept = tmp_path / f"s.aside{name.removeprefix('s')}"
    assert "years of work" in (kept / "thesis.txt" if what == "folder" else kept).read_text()
    assert not list(tmp_path.glob("*.aside-2*"))


@pytest.mark.parametrize("change", ["others", "published", "edited"])
def test_a_store_that_makes_way_is_one_store_aside(run_command, source, tmp_path, change):
    """Of other rows, of the published system, without its record, and with a table that its user edited."""
    make_store(tmp_path, "s", "audio", index_of(7, "other"), layout="published")
    if change == "published":
        record_path(tmp_path / "s").unlink()
    if change == "edited":
        rows = read_table(tmp_path / "s.tsv").records()
        write_table(tmp_path / "s.tsv", ("id", "caption", "notes"), [(row["id"], row["caption"], "mine") for row in rows])
    before = snapshot(tmp_path)
    ended = convert(run_command, source, tmp_path / "s")
    assert ended.code == 2
    assert ("7 of its 7 rows" if change == "others" else NOT_OURS) in ended.err
    assert snapshot(tmp_path) == before
    ended = convert(run_command, source, tmp_path / "s", "--replace")
    assert ended.code == 0, ended.err
    assert f"{tmp_path / 's'} makes way for a new one and is now {tmp_path / 's.aside'}" in ended.out
    assert open_store(tmp_path, "s.aside").ids[0] == "other0"
    assert open_store(tmp_path, "s").ids[0] == "row0"


def test_a_store_of_the_version_before_is_made_again_of_the_same_rows(run_command, source, tmp_path):
    assert convert(run_command, source, tmp_path / "s").code == 0
    for name, code in (("", 0), ("extra.memmap", 2), ("extra.txt", 2)):
        record = json.loads(record_path(tmp_path / "s").read_text())
        record.pop("mark", None)
        record_path(tmp_path / "s").write_text(json.dumps(record))
        if name:
            (tmp_path / "s" / name).write_text("mine")
        assert convert(run_command, source, tmp_path / "s").code == code
        if name:
            assert (tmp_path / "s" / name).read_text() == "mine"
            (tmp_path / "s" / name).unlink()
    text = table_path(tmp_path / "s").read_text()
    table_path(tmp_path / "s").write_text(text.replace("\n", "\r\n"))
    assert convert(run_command, source, tmp_path / "s").code == 2, "not byte by byte what that version writes"


@pytest.mark.parametrize("what", ["folder", "files", "dangling", "parent"])
def test_convert_through_links_twice(run_command, source, tmp_path, what):
    real, out = tmp_path / "real", tmp_path / "out"
    real.mkdir()
    links = {"folder": ["s"], "files": ["s.tsv", "s.json", "s.empty_string.pth"], "dangling": list(STORE_NAMES), "parent": []}[what]
    if what == "parent":
        out.symlink_to(real)
    else:
        out.mkdir()
    for name in links:
        (out / name).symlink_to(real / name)
    if what == "folder":
        (real / "s").mkdir()
    for _ in range(2):
        ended = convert(run_command, source, out / "s")
        assert ended.code == 0, ended.err
        assert open_store(out, "s").ids[0] == "row0"
    make_store(out, "s", "audio", index_of(3, "other"))
    for index, (code, more) in enumerate(((2, ()), (0, ("--replace",)), (0, ()), (0, ("--replace",)))):
        ended = convert(run_command, source, out / "s", *more)
        assert ended.code == code, ended.err
        assert open_store(out, "s").ids[0] == ("other0" if index == 0 else "row0")
    assert open_store(out, "s.aside").ids == [row_id for row_id, _ in index_of(3, "other")]
    assert all((out / name).is_symlink() for name in links) and out.is_symlink() == (what == "parent")
    if what in ("folder", "dangling"):
        assert sorted(path.name for path in real.iterdir() if path.is_dir()) == ["s", "s.aside"]


def test_a_kill_at_any_change_while_a_store_makes_way(run_command, source, tmp_path, monkeypatch):
    """Whatever moment: the same command goes on, and the store that makes way is whole then."""
    make_store(tmp_path / "old", "s", "audio", index_of(3, "other"), layout="published")
    make_store(tmp_path / "old", "same", "audio", layout="published")
    for name, more in (("s", ("--replace",)), ("same", ())):
        for most in range(30):
            folder = tmp_path / f"{name}{most}"
            copytree(tmp_path / "old", folder)
            with monkeypatch.context() as patch:
                kill_at(patch, most, folder)
                ended = convert(run_command, source, folder / name, *more)
            if ended.code == 0:
                break
            assert ended.code == 130
            assert convert(run_command, source, folder / name, *more).code == 0
            assert open_store(folder, name).ids[0] == "row0"
            if more:
                assert open_store(folder, "s.aside").ids[0] == "other0"
        assert most > 5


# ---- extracted stores

EXTRACTED_NAMES = (*STORE_NAMES, "s.failed.tsv", "s.failed.tsv.mark.json")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three of a second, and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for index, name in enumerate(("a", "b", "c")):
        bounces = draw_bounces(11, "owner", index, 1.2)
        write_video(folder / f"{name}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 22_050), 22_050)
    (folder / "broken.mp4").write_bytes(b"no video")
    write_table(folder / "few.tsv", ("id", "label"), [("a", "x"), ("broken", "y")])
    write_table(folder / "set.tsv", ("id", "label"), [("a", "x"), ("b", "y"), ("c", "x"), ("broken", "y")])
    write_table(folder / "other.tsv", ("id", "label"), [("a", "another caption")])
    return folder


def extract(run_script, videos, output, *more, table="few.tsv"):
    words = ("--data_dir", videos, "--tsv", videos / table, "--name", "s", "--latent_dir", output / "work", "--output_dir", output)
    return run_script("training/extract_video_training_latents.py", *words, *LITE, *more)


@pytest.mark.parametrize("name", EXTRACTED_NAMES)
@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_extraction_replaces_nothing_of_others(run_script, videos, tmp_path, name, what):
    put(tmp_path / name, what)
    before = snapshot(tmp_path)
    for more in ((), ("--append",)):
        ended = extract(run_script, videos, tmp_path, *more)
        assert ended.code == 2
        assert more or NOT_OURS in ended.err or "is a folder, where the store" in ended.err
        assert snapshot(tmp_path) == before


def test_extraction_moves_everything_of_others_aside(run_script, videos, tmp_path):
    for name in EXTRACTED_NAMES:
        put(tmp_path / name, "folder" if name == "s" else "file")
    for table in ("few.tsv", "few.tsv", "other.tsv"):
        ended = extract(run_script, videos, tmp_path, "--replace", table=table)
        assert ended.code == (3 if table == "few.tsv" else 0), ended.err
    assert (tmp_path / "s.aside" / "thesis.txt").read_text() == "years of work"
    for name in ("s.aside.tsv", "s.aside.json", "s.aside.empty_string.pth", "s.failed.tsv.aside", "s.failed.tsv.mark.json.aside"):
        assert "years of work" in (tmp_path / name).read_text()
    assert open_store(tmp_path, "s.aside-2").captions == ["x"] and open_store(tmp_path, "s").captions == ["another caption"]


def test_a_table_that_its_user_edited_is_theirs(run_script, videos, tmp_path):
    for _ in range(2):
        assert extract(run_script, videos, tmp_path).code == 3
    for name in ("s.tsv", "s.failed.tsv"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole + b"\n")
        before = snapshot(tmp_path)
        for words in ((), ("--append",)):
            ended = extract(run_script, videos, tmp_path, *words, table="set.tsv")
            assert ended.code == 2 and f"{tmp_path / name} {NOT_OURS}" in ended.err and "it was changed after" in ended.err
            assert snapshot(tmp_path) == before
        (tmp_path / name).write_bytes(whole)
    assert extract(run_script, videos, tmp_path, "--append", table="set.tsv").code == 3
    assert open_store(tmp_path, "s").ids == ["a", "b", "c"]


@pytest.mark.parametrize("layout", ["compact", "published"])
def test_a_store_of_the_version_before_is_added_to(run_script, videos, tmp_path, layout):
    assert extract(run_script, videos, tmp_path, "--layout", layout).code == 3
    record = json.loads(record_path(tmp_path / "s").read_text())
    record.pop("mark")
    record_path(tmp_path / "s").write_text(json.dumps(record))
    record_beside(tmp_path / "s.failed.tsv").unlink()
    assert extract(run_script, videos, tmp_path, "--layout", layout, "--append", table="set.tsv").code == 3
    assert open_store(tmp_path, "s").ids == ["a", "b", "c"]
    assert [reject.id for reject in read_rejects(tmp_path / "s.failed.tsv")] == ["broken"]
    assert extract(run_script, videos, tmp_path, "--layout", layout, table="set.tsv").code == 3


@pytest.mark.parametrize("what", ["folder", "files", "parent"])
def test_extraction_through_links_twice(run_script, videos, tmp_path, what):
    real, out = tmp_path / "real", tmp_path / "out"
    real.mkdir()
    (out if what != "parent" else real / "work").mkdir()
    links = {"folder": ["s", "work"], "files": ["s.tsv", "s.json", "s.failed.tsv"], "parent": []}[what]
    for name in links:
        (out / name).symlink_to(real / name)
    if what == "folder":
        (real / "work").mkdir()
    if what == "parent":
        out.symlink_to(real)
    for _ in range(2):
        assert extract(run_script, videos, out).code == 3
        assert open_store(out, "s").ids == ["a"]
    assert extract(run_script, videos, out, "--append", table="set.tsv").code == 3
    assert open_store(out, "s").ids == ["a", "b", "c"]
    assert extract(run_script, videos, out, "--replace", table="other.tsv").code == 0
    assert open_store(out, "s").captions == ["another caption"] and open_store(out, "s.aside").ids == ["a", "b", "c"]
    assert all((out / name).is_symlink() for name in links if name != "work") and out.is_symlink() == (what == "parent")
    if what == "folder":
        assert {path.name for path in real.iterdir()} >= {"s", "s.aside"}


def test_a_place_that_is_a_link_to_nothing_is_said(run_script, videos, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    ended = extract(run_script, videos, tmp_path / "out")
    assert (ended.code, f"{tmp_path}/out is a link to {tmp_path}/gone, which is not there" in ended.err) == (2, True)
    assert (tmp_path / "out").is_symlink() and not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", ["s", "s.tsv", "s.json", "s.failed.tsv", "work", "."])
def test_a_place_that_is_a_link_to_itself_is_said(run_script, videos, tmp_path, name):
    place = tmp_path / "out" / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(place.name)
    ended = extract(run_script, videos, tmp_path / "out")
    assert (ended.code, place.is_symlink()) == (2, True)
    assert "link" in ended.err and "Traceback" not in ended.err


@pytest.mark.parametrize("name", ["mean.memmap", "null_text.memmap", "manifest.json", "inputs.tsv", "lock", "stop", "base.json"])
def test_nothing_is_written_through_links_of_a_latent_dir(run_script, videos, tmp_path, name):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).symlink_to(tmp_path / "elsewhere")
    for is_there in (False, True):
        if is_there:
            (tmp_path / "elsewhere").write_text("years of work")
        before = snapshot(tmp_path)
        ended = extract(run_script, videos, tmp_path)
        assert ended.code == 2 and "work" in ended.err
        assert snapshot(tmp_path) == before
