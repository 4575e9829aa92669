"""A Python module run in a process of its own, for so long and no longer: compiling can take any time, or fail."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.machine import child_environment

ROOT = Path(__file__).resolve().parents[1]
LONGEST_REASON = 100  # characters


@dataclass(frozen=True)
class Ended:
    """What a process printed, and why it did not come to its end (None: it did)."""

    lines: list[str]
    failure: str | None


def run_limited(module: str, words: Sequence[str], limit_s: float) -> Ended:
    """Run `python -m module words` with an empty cache of compiled code, and end it with its children after `limit_s` seconds."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        out, err = Path(place) / "out", Path(place) / "err"
        command = [sys.executable, "-m", module, *words]
        environment = {**child_environment(), "TORCHINDUCTOR_CACHE_DIR": place}
        with out.open("w") as to_out, err.open("w") as to_err:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=to_out, stderr=to_err, start_new_session=True)
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_session(process)
        lines, said = out.read_text().splitlines(), err.read_text(errors="replace").strip().splitlines()
    if code is None:
        return Ended(lines, f"gave up after {limit_s:.0f} s")
    reason = said[-1][:LONGEST_REASON] if said else f"exit {code}"
    return Ended(lines, f"failed: {reason}" if code else None)


def _end_session(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a session of its own, with the compilers it started."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended by themselves
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
