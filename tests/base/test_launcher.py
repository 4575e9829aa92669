"""What a launcher's environment says, without torch; who speaks is asked by every command."""

import subprocess
import sys

import pytest

from mmaudio.base.errors import UserError
from mmaudio.base.launcher import read_ranks


def test_a_place_that_is_no_number(monkeypatch):
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UserError, match="the environment says RANK=first; want a whole number"):
        read_ranks()


def test_reading_it_needs_no_torch():
    code = "import sys; from mmaudio.base.launcher import read_ranks; read_ranks(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
