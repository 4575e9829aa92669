"""What files of tensors carry to be checked by: found in every format, compared once, and said where there is nothing."""

import hashlib
import logging
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmaudio.base.errors import UserError
from mmaudio.files import checksums, tensor_files
from mmaudio.files.checksums import (
    ENTRY,
    NO_ARCHIVE,
    PLACEHOLDER,
    DamagedFileError,
    carried_checksums,
    check_sums,
    content_id,
    digest_file,
    note_verified,
    state_checksum,
)
from mmaudio.files.tensor_files import read_tensor_file, verify_tensor_file

STATE = {"a.weight": torch.arange(6000.0).view(2, 3000), "b": torch.ones(()), "none": torch.zeros(0)}


def archive(path: Path, state: object = STATE) -> Path:
    torch.save(state, path)
    return path


def signed(path: Path, **more: str) -> Path:
    save_file(STATE, path, {ENTRY: PLACEHOLDER, **more})
    state_checksum(path)
    return path


def without(path: Path, form: str) -> Path:
    """A file that carries no checksum."""
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(STATE, path, {"format": "pt", ENTRY: "sha256:of something else"})
    elif form == "before zip":
        torch.save(STATE, path, _use_new_zipfile_serialization=False)
    else:
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(STATE, path)
        finally:
            torch.serialization.set_crc32_options(True)
    return path


UNCHECKED = ("safetensors", "before zip", "zip without sums")


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """The names of the files that are read through."""
    read, whole = [], checksums._crc32s
    monkeypatch.setattr(checksums, "_crc32s", lambda path, *rest: read.append(path.name) or whole(path, *rest))
    return read


@pytest.fixture
def long_ago(monkeypatch) -> None:
    """Files of the size of a test's are remembered, and were written long ago."""
    monkeypatch.setattr(checksums, "_REMEMBERED_BYTES", 0)
    monkeypatch.setattr(checksums, "_SETTLED_S", -10.0)


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_archive_is_checked_whole(tmp_path):
    path = archive(tmp_path / "w.pth")
    parts = {each.part: each for each in carried_checksums(path)}
    assert {"w/data.pkl", "w/data/0", "w/data/1", "w/data/2", "w/byteorder"} <= set(parts)
    (start, end), *_ = parts["w/data/0"].spans
    assert path.read_bytes()[start:end] == STATE["a.weight"].numpy().tobytes()
    assert verify_tensor_file(path)


def test_a_safetensors_file_of_ours_states_the_sum_of_all_other_bytes(tmp_path):
    path = signed(tmp_path / "w.safetensors", exp_id=f'{{"{ENTRY}":"crc32:11111111"}}')
    (stated,) = carried_checksums(path)
    (start, end), (after, size) = stated.spans
    assert (start, after - end, size) == (0, 8, path.stat().st_size)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()[ENTRY] == f"crc32:{stated.crc32:08x}" != PLACEHOLDER
    assert verify_tensor_file(path)
    for place in range(0, size, 7):
        content = bytearray(path.read_bytes())
        content[place] ^= 0x20
        other = tmp_path / "other.safetensors"
        other.write_bytes(content)
        try:
            found = read_tensor_file(other)
        except DamagedFileError:
            continue
        assert all(torch.equal(found[name], value) for name, value in STATE.items()), place


def test_tensors_exchanged_under_an_old_checksum(tmp_path):
    path = signed(tmp_path / "w.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(STATE | {"b": torch.zeros(())}, path, metadata)  # as a program does that hands metadata on
    with pytest.raises(DamagedFileError, match=r"is damaged, or was changed by another program: its checksum is wrong; .* export it anew"):
        read_tensor_file(path)


@pytest.mark.parametrize("form", UNCHECKED)
def test_a_file_with_nothing_to_be_checked_by_is_said_to_be_unchecked_once(tmp_path, caplog, form):
    path = without(tmp_path / "w.pth", form)
    assert carried_checksums(path) == []
    for _ in range(2):
        assert read_tensor_file(path)["b"] == 1
    assert read_tensor_file(tmp_path / "." / path.name)["b"] == 1
    assert warnings(caplog) == [f"{path} carries no checksum and is used unchecked: damage in it would not be noticed"]
    assert not verify_tensor_file(path)


def test_what_has_its_published_checksum_is_not_said_to_be_unchecked(tmp_path, caplog):
    path = without(tmp_path / "w.pth", "before zip")
    note_verified(path)
    read_tensor_file(path)
    assert warnings(caplog) == []
    os.utime(path, ns=(1, 1))
    read_tensor_file(path)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("make", [archive, signed])
def test_a_file_is_summed_once(tmp_path, readings, long_ago, make):
    path = make(tmp_path / ("w.pth" if make is archive else "w.safetensors"))
    readings.clear()
    for _ in range(3):
        read_tensor_file(path)
    assert readings == [path.name]
    path.write_bytes(path.read_bytes())  # the same, but nobody knows
    read_tensor_file(path)
    assert readings == [path.name] * 2


def test_a_hash_and_the_sums_are_taken_in_one_reading(tmp_path, readings, long_ago):
    path, digests = archive(tmp_path / "w.pth"), [hashlib.sha256(), hashlib.md5()]
    digest_file(path, digests)
    assert [digest.digest() for digest in digests] == [kind(path.read_bytes()).digest() for kind in (hashlib.sha256, hashlib.md5)]
    read_tensor_file(path)
    assert readings == ["w.pth"]
    content = bytearray(path.read_bytes())
    content[-4000] ^= 1
    path.write_bytes(content)
    digest_file(path, [])  # a hash can be taken of a damaged file
    with pytest.raises(DamagedFileError):
        read_tensor_file(path)


def test_what_changed_within_a_tick_of_the_clock_is_read_again(tmp_path, readings, monkeypatch):
    monkeypatch.setattr(checksums, "_REMEMBERED_BYTES", 0)
    path = archive(tmp_path / "w.pth")
    assert check_sums(path) and check_sums(path)
    assert readings == ["w.pth"] * 2


def test_a_file_that_is_replaced_while_it_is_read_is_checked_again(tmp_path, monkeypatch):
    path, load, others = archive(tmp_path / "w.pth"), tensor_files._load, [2.0, 3.0]

    def replaced(path: Path) -> object:
        if others:
            os.replace(archive(tmp_path / "new.pth", STATE | {"b": torch.tensor(others.pop(0))}), path)
        return load(path)

    monkeypatch.setattr(tensor_files, "_load", replaced)
    assert read_tensor_file(path)["b"] == 3.0
    assert others == []


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, **exchanged: bytes) -> Path:
    """An archive of other parts."""
    with zipfile.ZipFile(path) as before:
        parts = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w", compression) as after:
        for name, content in parts.items():
            after.writestr(name, exchanged.get(name.partition("/")[2].replace(".", "_"), content))
    return path


def test_an_archive_of_another_program(tmp_path):
    assert verify_tensor_file(repacked(archive(tmp_path / "stored.pth")))
    with pytest.raises(DamagedFileError, match="is no readable weights file"):  # by mmap, torch would take packed bytes for numbers
        read_tensor_file(repacked(archive(tmp_path / "packed.pth"), zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("place", ["directory", "local header"])
@pytest.mark.parametrize("value", [0, 1, 0x40, 0xFF])
def test_places_that_lead_astray_are_damage(tmp_path, place, value):
    path = archive(tmp_path / "w.pth")
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")  # the last part's
    at = entry + 44 if place == "directory" else content.rindex(b"PK\x03\x04") + 28
    content[at] = value if content[at] != value else value ^ 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        read_tensor_file(path)


def test_a_disk_that_fails_is_not_damage(tmp_path, monkeypatch):
    path = archive(tmp_path / "w.pth")

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checksums, "_crc32s", broken)
    with pytest.raises(UserError, match=r"w\.pth cannot be read: Input/output error") as caught:
        read_tensor_file(path)
    assert not isinstance(caught.value, DamagedFileError)


def test_content_is_told_apart_whatever_the_file_is_called(tmp_path):
    one, other = archive(tmp_path / "one.pth"), archive(tmp_path / "other.pth")
    assert content_id(one) == content_id(other)
    assert content_id(archive(tmp_path / "new.pth", STATE | {"b": torch.zeros(())})) != content_id(one)
    assert content_id(archive(tmp_path / "named.pth", {f"x{name}": value for name, value in STATE.items()})) != content_id(one)
    assert {content_id(without(tmp_path / "w.pth", form)) for form in UNCHECKED[:2]} == {NO_ARCHIVE}
    (tmp_path / "torn").write_bytes(one.read_bytes()[:200])
    assert content_id(tmp_path / "torn") == NO_ARCHIVE
