"""Files of a release: fetched, verified, remembered; cut, wrong, missing, offline; by one process at a time."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.files import checksums
from mmaudio.files.checksums import is_verified
from mmaudio.weights import CATALOGUE, download, fetch, locate
from mmaudio.weights import verification as verify
from mmaudio.weights.locate import UNVERIFIED, VERIFIED, state
from tests.weights.conftest import CONTENT

VAE = Path("ext_weights/v1-16.pth")
FETCH_VAE = "`mmaudio weights fetch vae_16k`"


def sentence(name="vae_16k", place=None) -> str:
    with pytest.raises(UserError) as mistake:
        locate(name, place)
    (said,) = mistake.value.sentences
    assert "\n" not in said
    return said


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_fetched_verified_and_remembered(server, monkeypatch):
    assert locate("vae_16k") == VAE
    assert VAE.read_bytes() == CONTENT
    assert files(VAE.parent) == [".v1-16.pth.checksum.json", "v1-16.pth"]
    monkeypatch.setattr(verify, "read_fingerprint", None)  # nothing is read again
    assert locate("vae_16k") == locate("vae_16k", "./ext_weights/v1-16.pth") == VAE
    assert len(server.asked("v1-16.pth")) == 1


def test_default_place_is_below_the_root(server, tmp_path):
    assert locate("vae_16k", root=tmp_path / "elsewhere") == tmp_path / "elsewhere" / VAE
    assert locate("vae_16k", tmp_path / "other" / VAE, root=tmp_path / "other").read_bytes() == CONTENT


def test_a_cut_is_gone_on_from(server):
    server.misbehave("v1-16.pth", cut_after=1_234_567)
    server.misbehave("v1-16.pth", status=503)
    locate("vae_16k")
    assert VAE.read_bytes() == CONTENT
    assert [asked.range for asked in server.asked("v1-16.pth")] == [None, "bytes=1234567-", "bytes=1234567-"]


def test_a_later_call_goes_on_from_what_came(server):
    server.misbehave("v1-16.pth", cut_after=2_000_001)
    server.misbehave("v1-16.pth", status=503, times=download.TRIES)
    said = sentence()
    assert "answers 503" in said
    assert FETCH_VAE in said
    assert not VAE.exists()
    locate("vae_16k")
    assert VAE.read_bytes() == CONTENT
    assert server.asked("v1-16.pth")[-1].range == "bytes=2000001-"
    assert not list(VAE.parent.glob("*.part*"))


def interrupt(*_):
    raise KeyboardInterrupt


def test_what_came_whole_but_was_not_renamed_is_taken(server, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "read_fingerprint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            locate("vae_16k")
    assert not VAE.exists()
    locate("vae_16k")
    assert VAE.read_bytes() == CONTENT
    assert server.asked("v1-16.pth")[-1].range == "bytes=3000000-"


def test_another_file_by_now_is_fetched_whole(server):
    server.add_release("v1-16.pth", b"older" * 100_000)
    server.misbehave("v1-16.pth", cut_after=400_000)
    server.misbehave("v1-16.pth", status=503, times=download.TRIES)
    sentence()
    server.add_release("v1-16.pth", CONTENT)
    locate("vae_16k")
    assert VAE.read_bytes() == CONTENT
    assert server.asked("v1-16.pth")[-1].range == "bytes=400000-", "it asked, and was sent the whole"


def test_a_server_without_ranges_is_begun_with_again(server):
    server.misbehave("v1-16.pth", cut_after=1_000_000)
    server.misbehave("v1-16.pth", ignores_range=True)
    locate("vae_16k")
    assert VAE.read_bytes() == CONTENT


def test_a_file_that_always_ends_early_is_no_file(server):
    server.misbehave("v1-16.pth", cut_after=1_000_000, ignores_range=True, times=100)
    assert "ended the connection after 1000000 of 3000000 bytes" in sentence()
    assert not VAE.exists()
    assert len(server.asked("v1-16.pth")) == 1 + download.TRIES


def test_wrong_bytes_of_a_release_are_removed(server):
    server.misbehave("v1-16.pth", garble=True)
    said = sentence()
    assert f"want {hashlib.md5(CONTENT).hexdigest()}" in said
    assert "the 16 kHz VAE is needed for extracting sound and generating in mode 16k" in said
    assert FETCH_VAE in said
    assert files(VAE.parent) == []


def test_a_shorter_file_than_published_is_removed(server):
    server.add_release("v1-16.pth", CONTENT[:-1])
    assert "is not the published file" in sentence()
    assert files(VAE.parent) == []


def test_a_file_that_is_not_there(server):
    del server.releases["v1-16.pth"]
    said = sentence()
    assert "v1-16.pth could not be fetched: 127.0.0.1" in said
    assert "answers 404" in said
    assert files(VAE.parent) == []


def test_a_host_that_is_not_there(server, monkeypatch):
    server.url = "http://127.0.0.1:1"
    monkeypatch.setattr(download, "TRIES", 1)
    monkeypatch.setattr(fetch, "_remote", lambda row, file: download.Remote("http://127.0.0.1:1/v1-16.pth"))
    assert "127.0.0.1:1 cannot be reached: [Errno 111] Connection refused" in sentence()


def test_offline_nothing_is_asked(server, place, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = sentence()
    assert "v1-16.pth is missing and HF_HUB_OFFLINE is set" in said
    assert FETCH_VAE in said
    assert server.requests == []
    assert list(place.iterdir()) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    locate("vae_16k")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate("vae_16k") == VAE


def test_a_changed_file_is_verified_again(server):
    locate("vae_16k")
    VAE.write_bytes(CONTENT[:-1] + b"x")
    said = sentence()
    assert f"{VAE} is not the published file" in said
    assert "name it by its path to use it as it is" in said
    assert VAE.exists(), "what a user has is left alone"
    VAE.write_bytes(CONTENT)
    assert locate("vae_16k") == VAE


def test_what_is_right_needs_no_checksum_of_its_own(server, monkeypatch):
    monkeypatch.setattr(checksums, "_verified", set())
    assert is_verified(locate("vae_16k"))
    assert not is_verified(locate("empty_string")), "nothing was published of it"
    for remembered in (True, False):  # another process finds it there
        checksums._verified.clear()
        if not remembered:
            Path("ext_weights/.v1-16.pth.checksum.json").unlink()
        assert is_verified(locate("vae_16k"))
    VAE.write_bytes(CONTENT)
    assert not is_verified(VAE)


def test_an_md5_is_taken_only_where_it_was_published(server):
    def kinds() -> set[str]:
        return {"md5", "sha256"} & set(json.loads(Path("ext_weights/.v1-16.pth.checksum.json").read_text()))

    VAE.parent.mkdir()
    VAE.write_bytes(CONTENT)
    assert verify.checksum(VAE) == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert kinds() == {"sha256"}
    assert state(CATALOGUE["vae_16k"], Path()) == UNVERIFIED
    assert locate("vae_16k") == VAE
    assert kinds() == {"md5", "sha256"}
    assert state(CATALOGUE["vae_16k"], Path()) == VERIFIED
    assert server.requests == []


def test_without_a_published_checksum_the_one_fetched_counts(server):
    path = locate("empty_string")
    assert json.loads((path.parent / ".empty_string.pth.checksum.json").read_text())["expected"].startswith("sha256:")
    path.write_bytes(b"something else")
    assert "is not the published file" in sentence("empty_string")


def test_a_folder_that_takes_no_files(server, place):
    (place / "ext_weights").write_text("a file where a folder should be")
    assert "cannot be written" in sentence()


def test_no_room(server, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2_000_000}))
    assert "make room" in sentence()
    assert not VAE.exists()


CHILD = """
import sys
from dataclasses import replace
from mmaudio.weights import CATALOGUE, locate
from mmaudio.weights.catalogue import ReleaseSource
url, md5, *place = sys.argv[1:]
CATALOGUE["vae_16k"] = replace(CATALOGUE["vae_16k"], source=ReleaseSource(url), md5=md5)
print(locate("vae_16k", *place))
"""


@pytest.mark.parametrize("named", [[], ["test/vae@main"]])
def test_two_processes_download_once(server, named):
    server.add_file("test/vae", "v1-16.pth", CONTENT)
    server.misbehave("v1-16.pth", delay_s=1.0)
    words = [sys.executable, "-c", CHILD, f"{server.url}/releases", hashlib.md5(CONTENT).hexdigest(), *named]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert Path(said[0][0].strip()).read_bytes() == CONTENT
    assert len(server.asked("v1-16.pth")) == 1


def test_importing_fetches_nothing_and_loads_no_library():
    code = "import sys, mmaudio.weights; print(sorted({'huggingface_hub', 'filelock', 'torch', 'httpx', 'requests'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("notes", [None, "link", b"my notes", b'{"of": 1}'])
@pytest.mark.parametrize("kind", ["link", "file", "folder"])
def test_what_stands_where_a_download_begins_is_kept(server, kind, notes):
    VAE.parent.mkdir()
    partial, theirs = VAE.with_name(".v1-16.pth.part"), Path("theirs")
    theirs.write_bytes(b"precious")
    if kind == "folder":
        partial.mkdir()
    elif kind == "file":
        partial.write_bytes(b"precious")
    else:
        partial.symlink_to(theirs.resolve())
    place = partial.with_name(f"{partial.name}.json")
    if notes == "link":
        place.symlink_to(theirs.resolve())
    elif notes:
        place.write_bytes(notes)
    for _ in range(2):
        locate("vae_16k")
    assert (VAE.read_bytes(), theirs.read_bytes()) == (CONTENT, b"precious")
    kept = VAE.with_name(".v1-16.pth.part.aside")
    assert kept.exists() == (kind != "link") and (kind != "file" or kept.read_bytes() == b"precious")
    assert not isinstance(notes, bytes) or place.with_name(f"{place.name}.aside").read_bytes() == notes


def test_a_link_to_a_place_elsewhere_stays_one(server, place):
    VAE.parent.mkdir()
    (place / "disk").mkdir()
    VAE.symlink_to(place / "disk" / "v1-16.pth")
    for _ in range(2):
        locate("vae_16k")
    assert VAE.is_symlink() and (place / "disk" / "v1-16.pth").read_bytes() == CONTENT
    (place / "ext_weights" / ".v1-16.pth.checksum.json").unlink()
    (place / "disk" / "v1-16.pth").write_bytes(b"another")
    fetch.ensure(CATALOGUE["vae_16k"], Path(), replace_wrong=True)
    assert (place / "disk" / "v1-16.pth").read_bytes() == b"another", "what a link leads to is somebody's own"
    assert VAE.read_bytes() == CONTENT and Path(f"{VAE}.aside").read_bytes() == b"another"
