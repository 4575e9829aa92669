"""A working directory and a hub of one's own, away from the user's settings and files."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from mmaudio.weights import CATALOGUE, download
from mmaudio.weights.catalogue import ReleaseSource
from tests.weights.hub_server import HubServer, serve

CONTENT = np.random.default_rng(4).bytes(3_000_000)
SETTINGS = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the hub's cache beside it."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it was read when the tests began
    monkeypatch.setattr(download, "WAIT_S", 0.0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The server, as the hub; vae_16k and empty_string (without a checksum) come from its release."""
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        source = ReleaseSource(server.add_release("v1-16.pth", CONTENT))
        server.add_release("empty_string.pth", CONTENT[:5000])
        vae = replace(CATALOGUE["vae_16k"], source=source, md5=hashlib.md5(CONTENT).hexdigest())
        monkeypatch.setitem(CATALOGUE, "vae_16k", vae)
        monkeypatch.setitem(CATALOGUE, "empty_string", replace(CATALOGUE["empty_string"], source=source))
        yield server
