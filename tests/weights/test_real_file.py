"""The smallest published file that has a checksum, from the real hub; skipped where there is no way to it."""

import json
import subprocess
import sys

import pytest

from mmaudio.weights import CATALOGUE
from mmaudio.weights.fetch import fetch_file
from mmaudio.weights.verification import remembered

URL = "https://huggingface.co/nvidia/bigvgan_v2_44khz_128band_512x/resolve/main/config.json"
ASK = f"import urllib.request as u; print(u.urlopen(u.Request({URL!r}, method='HEAD'), timeout=2).headers['X-Repo-Commit'])"


def hub_answers() -> bool:
    """Whether the hub itself answers. In a process of its own: looking up a name can hang longer than any timeout given to it."""
    try:
        asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=2.5, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0 and len(asked.stdout.strip()) == 40


def test_the_real_smallest_file(place, monkeypatch):
    if not hub_answers():
        pytest.skip("no network: huggingface.co does not answer within 2.5 s")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("NO_PROXY")
    row = CATALOGUE["vocoder_44k"]
    target = row.targets(place)["config.json"]
    fetch_file(row, "config.json", target)  # verified against the name git gives its content
    settings = json.loads(target.read_text())
    assert (settings["num_mels"], settings["hop_size"], settings["sampling_rate"]) == (128, 512, 44_100)
    known = remembered(target)
    assert known is not None
    assert known.expected == f"sha256:{known.sha256}"
