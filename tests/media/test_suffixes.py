"""One list of suffixes for every stage, and one lookup, for which case does not matter."""

import pytest

from mmaudio.base.errors import UserError
from mmaudio.media.suffixes import BROWSER_VIDEO_SUFFIXES, HIDDEN_VIDEO_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, FolderIndex, files_by_id


def folder_of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_lists_agree():
    assert set(BROWSER_VIDEO_SUFFIXES) | set(HIDDEN_VIDEO_SUFFIXES) == set(VIDEO_SUFFIXES) < set(SOUND_SUFFIXES)
    for suffixes in (VIDEO_SUFFIXES, SOUND_SUFFIXES):
        assert len(set(suffixes)) == len(suffixes) and all(suffix == suffix.lower() for suffix in suffixes)


def test_case_does_not_matter_and_the_first_suffix_wins(tmp_path):
    folder = folder_of(tmp_path, "a.MKV", "a.Mp4", "b.m4v", "b.M4V", "c.d.mov", "e.txt", "deep/f.AVI", ".mp4")
    ids = ["a", "b", "c.d", "c", "e", "deep/f", "deep/g", "gone/h", "", "n\0", "x" * 300 + "/y"]
    found = files_by_id(folder, ids, VIDEO_SUFFIXES)
    assert {name: str(path.relative_to(folder)) for name, path in found.items()} == {
        "a": "a.Mp4",
        "b": "b.m4v",
        "c.d": "c.d.mov",
        "deep/f": "deep/f.AVI",
    }
    with pytest.raises(UserError, match="no folder at"):
        files_by_id(tmp_path / "none", ids, VIDEO_SUFFIXES)


def test_a_folder_is_looked_at_once(tmp_path, monkeypatch):
    folder_of(tmp_path, "a.mp4", "deep/b.mp4")
    index = FolderIndex(tmp_path, VIDEO_SUFFIXES)
    assert (index.find("a"), index.find("deep/b")) == ("a.mp4", "deep/b.mp4")
    monkeypatch.setattr("os.listdir", lambda folder: pytest.fail(f"{folder} is listed again"))
    assert (index.find("a"), index.find("z"), index.find("deep/z")) == ("a.mp4", None, None)
