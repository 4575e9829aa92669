"""Paths a user names, the catalogue's names, and checksums."""

import hashlib
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.weights import CATALOGUE, VARIANTS, check_place, checksum, extraction_needs, find_row, generation_needs, locate
from mmaudio.weights import verification as verify
from mmaudio.weights.hub import HubPlace
from mmaudio.weights.locate import read_place
from tests.weights.conftest import CONTENT
from tests.weights.test_release_files import sentence


def test_a_path_is_used_as_it_is(server, tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"my own VAE")
    assert locate("vae_16k", mine) == locate("vae_16k", str(mine)) == mine
    assert server.requests == []


def test_a_path_wins_over_a_repository(server, place):
    server.add_file("test/vae", "v1-16.pth", b"from the hub")
    (place / "test").mkdir()
    (place / "test" / "vae").write_bytes(b"from here")
    assert locate("vae_16k", "test/vae") == Path("test/vae")


def test_paths_that_will_not_do(place, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "open_clip_config.json").write_text("{}")
    assert "there is no file at nowhere/v1-16.pth" in sentence("vae_16k", "nowhere/v1-16.pth")
    assert "there is no file at ./nowhere/vae" in sentence("vae_16k", "./nowhere/vae")
    assert "there is no folder at /nowhere" in sentence("clip", "/nowhere")
    assert "there is no file at nowhere/vae" in sentence("vae_16k", Path("nowhere/vae"))
    assert "is a folder; a file is wanted" in sentence("vae_16k", tmp_path / "model")
    assert "is a file; a folder is wanted" in sentence("clip", tmp_path / "model" / "open_clip_config.json")
    assert "holds no open_clip_pytorch_model.bin" in sentence("clip", tmp_path / "model")
    (tmp_path / "model" / "open_clip_model.safetensors").write_bytes(b"")
    assert locate("clip", tmp_path / "model") == tmp_path / "model"
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [("a/b", "a/b", "main"), ("a/b@v1", "a/b", "v1"), ("a-b/c.d_e@refs/pr/1", "a-b/c.d_e", "refs/pr/1"), ("a/b.pt@x", "a/b.pt", "x")],
)
def test_repositories_are_read(place, text, repo, revision):
    assert read_place(CATALOGUE["vae_16k"], text, Path()) == HubPlace(repo, revision)


def test_a_place_is_checked_without_the_network(server):
    check_place("vae_16k")
    check_place("vae_16k", "nobody/nothing@main")
    with pytest.raises(UserError, match="there is no file at /nowhere"):
        check_place("vae_16k", "/nowhere")
    with pytest.raises(UserError, match="no weights named 'vea_16k'"):
        check_place("vea_16k", "a/b")
    assert server.requests == []


def test_names(place):
    with pytest.raises(UserError, match=r"no weights named 'vae_16' \(did you mean 'vae_16k'\?\)"):
        locate("vae_16")
    assert extraction_needs("44k") == ("vae_44k", "synchformer", "clip")
    assert generation_needs("large_44k_v2") == ("large_44k_v2", "vae_44k", "vocoder_44k", "synchformer", "clip")
    for variant in VARIANTS:
        assert {find_row(name).name for name in generation_needs(variant)} <= set(CATALOGUE)
    assert [row.path(Path()) for row in CATALOGUE.values()] == [
        *(Path("weights") / f"mmaudio_{variant}.pth" for variant in VARIANTS),
        *(Path("ext_weights") / file for file in ("v1-16.pth", "v1-44.pth", "best_netG.pt", "bigvgan_v2_44khz_128band_512x")),
        *(Path("ext_weights") / file for file in ("synchformer_state_dict.pth", "DFN5B-CLIP-ViT-H-14-384", "empty_string.pth")),
        *(Path("ext_weights") / file for file in ("passt-s-f128-p16-s10-ap.476-swa.pt", "music_speech_audioset_epoch_15_esc_89.98.pt")),
        Path("ext_weights") / "roberta-base",
    ]


def test_a_checksum_is_computed_once(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)
    expected = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert checksum(path) == expected
    with monkeypatch.context() as patch:
        patch.setattr(verify, "read_fingerprint", None)
        assert checksum(path) == expected
    path.write_bytes(CONTENT[::-1])  # the same length, another time
    assert checksum(path) == f"sha256:{hashlib.sha256(CONTENT[::-1]).hexdigest()}"
    (tmp_path / ".mine.pth.checksum.json").write_text("{half")
    assert checksum(path) == f"sha256:{hashlib.sha256(CONTENT[::-1]).hexdigest()}"


def test_a_folder_that_takes_no_writing_is_read(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(CONTENT)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(verify, "write_json", refuse)
    assert checksum(path) == checksum(path) == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.pth"]


def test_checksums_of_folders(tmp_path):
    for name, content in {"a.bin": b"1", "b.bin": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    before = checksum(tmp_path)
    assert before.startswith("sha256:")
    assert checksum(tmp_path) == before, "what is remembered does not count as content"
    (tmp_path / "b.bin").rename(tmp_path / "c.bin")
    assert checksum(tmp_path) != before
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no weight file at"):
        checksum(tmp_path / "empty")
    with pytest.raises(UserError, match="no weight file at"):
        checksum(tmp_path / "missing.pth")
