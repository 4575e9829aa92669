"""Files of the hub: the default ones, repositories a user names, the cache, the environment, and what may be wrong there."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from mmaudio.weights import CATALOGUE, checksum, download, hub, locate
from mmaudio.weights.catalogue import HubSource
from tests.weights.conftest import CONTENT
from tests.weights.hub_server import serve
from tests.weights.test_release_files import sentence

BIGVGAN = "nvidia/bigvgan_v2_44khz_128band_512x"
CLIP_FILES = ("open_clip_config.json", "open_clip_pytorch_model.bin")


@pytest.fixture
def vocoder(server):
    server.add_file(BIGVGAN, "config.json", b'{"num_mels": 128}')
    server.add_file(BIGVGAN, "bigvgan_generator.pt", CONTENT)
    return Path("ext_weights/bigvgan_v2_44khz_128band_512x")


def test_a_folder_of_files(server, vocoder, place):
    assert locate("vocoder_44k") == vocoder
    assert (vocoder / "config.json").read_bytes() == b'{"num_mels": 128}'
    assert (vocoder / "bigvgan_generator.pt").read_bytes() == CONTENT
    asked = len(server.requests)
    assert locate("vocoder_44k") == vocoder
    assert len(server.requests) == asked
    assert not (place.parent / "home").exists(), "the default files are not kept twice"
    (vocoder / "config.json").unlink()
    locate("vocoder_44k")
    assert [len(server.asked(file)) for file in ("config.json", "bigvgan_generator.pt")] == [2, 1], "only what is missing is fetched"


def test_a_cut_is_gone_on_from_by_a_later_call(server, vocoder):
    server.misbehave("bigvgan_generator.pt", cut_after=1_000_001)
    server.misbehave("bigvgan_generator.pt", status=500, times=download.TRIES)
    assert "bigvgan_generator.pt could not be fetched" in sentence("vocoder_44k")
    assert not (vocoder / "bigvgan_generator.pt").exists()
    locate("vocoder_44k")
    assert (vocoder / "bigvgan_generator.pt").read_bytes() == CONTENT
    assert server.asked("bigvgan_generator.pt")[-1].range == "bytes=1000001-"


@pytest.mark.parametrize(("file", "kind"), [("config.json", "git"), ("bigvgan_generator.pt", "sha256")])
def test_wrong_bytes_are_removed(server, vocoder, file, kind):
    server.misbehave(file, garble=True)
    assert f"not the published file (its {kind} checksum is" in sentence("vocoder_44k")
    assert not (vocoder / file).exists()
    assert locate("vocoder_44k") == vocoder


def test_a_generator_lies_where_the_published_system_has_it(server, monkeypatch):
    row = CATALOGUE["small_16k"]
    server.add_file("hkchengrex/MMAudio", "weights/mmaudio_small_16k.pth", CONTENT)
    assert "is not the published file" in sentence("small_16k"), "its published MD5 counts, not what the server says"
    monkeypatch.setitem(CATALOGUE, "small_16k", replace(row, md5=None))
    assert locate("small_16k") == Path("weights/mmaudio_small_16k.pth")
    assert locate("small_16k", "hkchengrex/MMAudio").read_bytes() == CONTENT, "in its folder of the repository, too"


def test_the_repository_of_clip_was_renamed(server):
    for file, content in zip(CLIP_FILES, (b"{}", CONTENT), strict=True):
        server.add_file("apple/DFN5B-CLIP-ViT-H-14-378", file, content)
    folder = locate("clip")
    assert folder == Path("ext_weights/DFN5B-CLIP-ViT-H-14-384")
    assert (folder / CLIP_FILES[1]).read_bytes() == CONTENT
    assert not any("-384" in asked.path for asked in server.requests if asked.method == "GET")


def test_a_named_repository_and_revision(server, place):
    server.add_file("test/vae", "v1-16.pth", b"main")
    server.add_file("test/vae", "v1-16.pth", b"tuned", revision="tuned")
    server.add_file("test/nested", "ext_weights/v1-16.pth", b"nested")
    assert locate("vae_16k", "test/vae").read_bytes() == b"main"
    assert locate("vae_16k", "test/vae@tuned").read_bytes() == b"tuned"
    assert locate("vae_16k", f"test/vae@{server.commit('test/vae', 'tuned')}").read_bytes() == b"tuned"
    path = locate("vae_16k", "test/nested@main")
    assert path.read_bytes() == b"nested"
    assert path.is_relative_to(place.parent / "home" / "hub")
    assert list(place.iterdir()) == []


def test_a_repository_that_moves_on(server):
    server.add_file("test/vae", "v1-16.pth", b"first")
    assert locate("vae_16k", "test/vae").read_bytes() == b"first"
    assert len(server.asked("v1-16.pth")) == 1
    locate("vae_16k", "test/vae")
    assert len(server.asked("v1-16.pth")) == 1
    server.add_file("test/vae", "v1-16.pth", b"second")
    assert locate("vae_16k", "test/vae").read_bytes() == b"second"


@pytest.mark.parametrize("weights", ["open_clip_pytorch_model.bin", "open_clip_model.safetensors"])
def test_a_named_repository_of_several_files(server, weights):
    server.add_file("test/clip", "open_clip_config.json", b"{}")
    server.add_file("test/clip", weights, CONTENT)
    folder = locate("clip", "test/clip@main")
    assert (folder / weights).read_bytes() == CONTENT
    assert (folder / "open_clip_config.json").read_bytes() == b"{}"


def test_what_the_hub_lacks_is_one_sentence(server):
    server.add_file("test/clip", "open_clip_config.json", b"{}")
    assert "there is no repository nobody/nothing on 127.0.0.1" in sentence("vae_16k", "nobody/nothing")
    assert "has no revision 'v2'" in sentence("clip", "test/clip@v2")
    said = sentence("clip", "test/clip")
    assert "has no open_clip_pytorch_model.bin and no open_clip_model.safetensors" in said
    assert "CLIP is needed for extracting captions and video" in said
    assert "there is no repository apple/DFN5B-CLIP-ViT-H-14-378" in sentence("clip")
    assert "neither a file here nor the name of a repository" in sentence("vae_16k", "a--b/c..d")


def test_a_hub_that_is_not_there(place, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "test/vae on 127.0.0.1:1 cannot be had" in sentence("vae_16k", "test/vae")
    said = sentence("vocoder_44k")
    assert "127.0.0.1:1 cannot be had" in said
    assert "`mmaudio weights fetch vocoder_44k`" in said


def test_offline_the_cache_counts(server, vocoder, monkeypatch):
    server.add_file("test/vae", "v1-16.pth", CONTENT)
    server.add_file("test/clip", "open_clip_config.json", b"{}")
    server.add_file("test/clip", "open_clip_pytorch_model.bin", CONTENT)
    named = [("vae_16k", "test/vae"), ("clip", "test/clip@main"), ("vocoder_44k", BIGVGAN)]
    online = [locate(name, repo) for name, repo in named]
    asked = len(server.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert [locate(name, repo) for name, repo in named] == online
    assert locate("vocoder_44k") == online[2], "a default file that is in the cache is not fetched again"
    assert not vocoder.exists()
    assert "v1-44.pth of test/vae@main is not in the hub's cache and HF_HUB_OFFLINE is set" in sentence("vae_44k", "test/vae")
    assert len(server.requests) == asked


def test_wrong_bytes_in_the_cache_are_removed(server):
    server.add_file("test/vae", "v1-16.pth", CONTENT)
    server.misbehave("v1-16.pth", garble=True)
    said = sentence("vae_16k", "test/vae")
    assert "is not what the hub says it is" in said
    assert "removed from the cache" in said
    assert locate("vae_16k", "test/vae").read_bytes() == CONTENT


def test_a_wrong_default_file_in_the_cache_is_passed_over(server, vocoder, caplog):
    path = locate("vocoder_44k", BIGVGAN)
    (path / "bigvgan_generator.pt").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert locate("vocoder_44k") == vocoder
    assert "is left alone" in caplog.text


def test_a_cut_on_the_way_to_the_cache(server):
    server.add_file("test/vae", "v1-16.pth", CONTENT)
    server.misbehave("v1-16.pth", cut_after=1_000_000)
    assert locate("vae_16k", "test/vae").read_bytes() == CONTENT


def test_settings_count_as_they_stand(server, tmp_path, monkeypatch):
    server.add_file("test/vae", "v1-16.pth", b"one")
    assert locate("vae_16k", "test/vae").is_relative_to(tmp_path / "home")
    with serve() as other:
        other.add_file("test/vae", "v1-16.pth", b"another")
        monkeypatch.setenv("HF_ENDPOINT", f"{other.url}/")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "second"))
        path = locate("vae_16k", "test/vae")
    assert path.read_bytes() == b"another"
    assert path.is_relative_to(tmp_path / "second" / "hub")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "third"))
    assert hub.cache_folder() == tmp_path / "third"
    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name)
    assert hub.cache_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub.endpoint() == "https://huggingface.co"


def test_a_token_goes_to_the_hub_and_no_further(server, vocoder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    locate("vocoder_44k")
    assert {asked.authorization for asked in server.requests if "/resolve/" in asked.path} == {"Bearer hf_secret"}
    url = server.add_release("moved.pth", CONTENT)
    download.download(download.Remote(f"{url}/moved.pth", authorization="Bearer hf_secret"), Path("moved.part").absolute())
    assert [asked.authorization for asked in server.requests[-2:]] == ["Bearer hf_secret", None], "not where it is sent on to"


def test_the_same_content_has_the_same_checksum_everywhere(server, vocoder, tmp_path):
    fetched, cached = locate("vocoder_44k"), locate("vocoder_44k", BIGVGAN)
    assert fetched != cached
    assert checksum(fetched) == checksum(cached)
    (fetched / "README.md").write_text("of no account")
    assert checksum(fetched) == checksum(cached)


def test_a_row_whose_source_is_one_repository():
    assert isinstance(CATALOGUE["clip"].source, HubSource)
    assert CATALOGUE["clip"].source.repos[1].endswith("-378")
