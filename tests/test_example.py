"""`make example` whole: it ends, and what it made has learned when and what to hear."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
MOST_MEMORY_GB = 4.0
BEST_F1_AT_LEAST = 0.5


@pytest.fixture(scope="module")
def summary():
    subprocess.run([sys.executable, "-m", "mmaudio.commands.main", "example"], cwd=ROOT, check=True)
    return json.loads((ROOT / "output/example/summary.json").read_text())


def test_it_hears_when(summary):
    f1 = summary["onset_f1"]
    assert f1["generated"] >= BEST_F1_AT_LEAST
    assert f1["generated"] >= 2 * f1["shuffled"]
    assert f1["interval"][0] > 0


def test_it_hears_what(summary):
    assert summary["caption"]["right"] < summary["caption"]["wrong"]


def test_it_learned(summary):
    assert summary["val_loss"]["last"] <= summary["val_loss"]["first"] / 2


def test_every_clip_is_counted(summary):
    for stage, counts in summary["clips"].items():
        assert counts["seen"] == counts["kept"] + counts["rejected"], stage
        assert counts["kept"] > 0, stage
    assert summary["clips"]["extract_heldout"]["kept"] >= 50


def test_it_fits_a_laptop_and_ends_in_a_page(summary):
    assert summary["peak_memory_gb"] <= MOST_MEMORY_GB
    assert summary["wall_s"]["total"] == pytest.approx(sum(v for k, v in summary["wall_s"].items() if k != "total"), abs=1.0)
    page = ROOT / "output/example/report/index.html"
    assert summary["page"] == str(page)
    assert "<video" in page.read_text()
