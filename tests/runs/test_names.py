"""The names of a run's files are there for commands that must not wait for torch."""

import subprocess
import sys


def test_names_come_without_torch():
    code = "import sys; from mmaudio.runs.folder import METRICS_FILE; assert 'torch' not in sys.modules; print(METRICS_FILE)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "metrics.jsonl\n"
