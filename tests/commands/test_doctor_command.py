"""`mmaudio doctor`: everything that is missing at once, estimates, and nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmaudio.doctor import environment as packages
from mmaudio.doctor import features as weights
from mmaudio.network import build_network
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data, write_tiny_store


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """Doctor is asked in an empty folder, and leaves it empty."""
    place, threads = tmp_path / "place", torch.get_num_threads()
    place.mkdir()
    monkeypatch.chdir(place)
    yield
    torch.set_num_threads(threads)
    assert list(place.iterdir()) == []


def told(out: str) -> dict[str, str]:
    """The two columns of every section."""
    lines = (line.split("  ") for line in out.splitlines() if line.startswith("  "))
    return {words[1].strip(): "  ".join(words[2:]).strip() for words in lines if len(words) > 2}


def test_a_run_that_can_be(run_command, data):
    ended = run_command("doctor", "train", *TINY, *data_overrides(data), "exp_id=x", "num_iterations=100")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "nothing is missing"), ended.out + ended.err
    found = told(ended.out)
    assert found["cores"] and found["memory"].endswith("available") and torch.__version__ in found["torch"]
    with torch.device("meta"):
        count = sum(tensor.numel() for tensor in build_network("nano_16k").state_dict().values())
    assert found["parameters"] == f"{4 * count / 1e6:.3g} MB"
    assert found["averages"].startswith(f"{8 * count / 1e6:.3g} MB")
    assert "4 rows at once of 4 a step" in found["activations"]
    assert found["checkpoints"].startswith("2 x ")
    assert "samples/s at 40% of" in found["speed"] and "measured" in found["speed"]
    assert "/s (" in found["data"] and "from the disk" in found["data"]


def test_bytes_a_second_count_rows_as_often_as_they_are_repeated(run_command, data):
    from mmaudio.batches import Source
    from mmaudio.doctor.training import store_needs
    from mmaudio.settings.schema import TrainSettings

    birds, winds = (Source.open(name, data / f"{name}.tsv", data / name, repeat=repeat) for name, repeat in (("birds", 3), ("winds", 1)))
    needs = store_needs([birds, winds], TrainSettings().caption_table_gb)
    assert needs.bytes_per_row == (18 * birds.store.row_bytes + 4 * winds.store.row_bytes) / 22
    assert needs.total == 6 * birds.store.row_bytes + 4 * winds.store.row_bytes + needs.captions_on_device
    without = store_needs([birds, winds], 0)
    assert without.captions_on_device == 0
    assert without.bytes_per_row == needs.bytes_per_row + 77 * 1024 * 2


@pytest.mark.parametrize(
    ("placement", "words"), [("ram", "are read once at the start, and the page cache"), ("device", "none while training")]
)
def test_placements(run_command, data, placement, words):
    ended = run_command("doctor", "train", *TINY, *data_overrides(data), f"placement={placement}")
    assert ended.code == 0
    assert words in told(ended.out)["data"]


def test_everything_that_is_missing_is_told_at_once(run_command, data):
    words = (*data_overrides(data), "model=nano_16k", "duration_s=1", "backend=lite", "device=cuda", "weights=gone.pth", "batchsize=3")
    ended = run_command("doctor", "train", *words, "data.birds.memmap_dir=nowhere", "batch_size=3", "--processes", 2)
    assert ended.code == 2 and ended.err == ""
    start = ended.out.index("missing or wrong: ")
    assert f"missing or wrong: {ended.out[start:].count(chr(10)) - 1}\n" in ended.out
    for part in (
        "unknown setting batchsize (did you mean 'batch_size'?)",
        "no file at gone.pth",
        "missing stores: birds (nowhere); make them with",
        "batch_size is 3; want a multiple of the 2 processes",
        *(["this machine has no CUDA device"] if not torch.cuda.is_available() else []),
    ):
        assert part in ended.out[start:]
    if not torch.cuda.is_available():
        assert "2 x H100 (by its published figures)" in ended.out


def test_a_plan_for_gpus_that_are_not_here(run_command, data):
    words = (*data_overrides(data), "model=small_44k", "batch_size=2048", "num_iterations=1000")
    ended = run_command("doctor", "train", *words, "--gpu", "RTX4090", "--processes", 8)
    assert ended.code == 2
    assert "this machine has no CUDA" not in ended.out
    (sentence,) = (line for line in ended.out.splitlines() if ". memory: the run takes" in line)
    assert sentence.endswith("and there are 24 GB; give micro_batch=64")
    assert "bf16" in told(ended.out)["model"] and "as published" in told(ended.out)["speed"]
    ended = run_command("doctor", "train", "--gpu", "H1000")
    assert ended.code == 2 and "--gpu is 'H1000' (did you mean 'H100'?)" in ended.err


def test_an_unknown_model_is_told_and_the_rest_as_well(run_command, data):
    ended = run_command("doctor", "train", *data_overrides(data), "model=nano_61k", "device=cpu", "enable_email=True")
    assert ended.code == 2
    assert "'nano_61k'" in ended.out and "enable_email is True" in ended.out


def test_without_the_repository_it_says_where_settings_were_looked_for(run_command, monkeypatch):
    monkeypatch.setattr("mmaudio.commands.doctor.CONFIG_DIR", Path("/nowhere/config"))
    ended = run_command("doctor", "train")
    assert ended.code == 2
    assert ended.err.startswith("error: no config folder at /nowhere/config: run from the repository")


def test_published_stores_carry_their_text(data, tmp_path):
    from mmaudio.batches import Source
    from mmaudio.doctor.training import store_needs

    write_tiny_store(tmp_path, "owls", "video", 2, layout="published")
    owls = Source.open("owls", tmp_path / "owls.tsv", tmp_path / "owls")
    needs = store_needs([owls], 4.0)
    assert (needs.captions_on_device, needs.bytes_per_row) == (0, owls.store.row_bytes)
    assert needs.bytes_per_row > 77 * 1024 * 4


def test_what_does_not_fit_whole_may_fit_in_shares(data, monkeypatch):
    from mmaudio.doctor.training import memory_needs, shared_out
    from mmaudio.settings.schema import TrainSettings

    whole = memory_needs(TrainSettings(model="nano_16k", batch_size=8), 4, None, "cuda", amp=False)
    shared = shared_out(whole, TrainSettings(model="nano_16k"), 4)
    assert whole.total - shared.total == pytest.approx(0.75 * whole.state.total, abs=4)
    assert whole.rows_that_fit(whole.total + 1) == 2 and whole.rows_that_fit(shared.total) < 0 < shared.rows_that_fit(whole.total)


def test_micro_batches_divide_the_share():
    from mmaudio.doctor.training import micro_batch_that_fits

    assert [micro_batch_that_fits(12, most) for most in (-1, 0, 1, 5, 11, 12, 99)] == [None, None, 1, 4, 6, 12, 12]


def test_weights_a_command_needs_are_named_with_their_sizes(run_command):
    ended = run_command("doctor", "extract", "--mode", "44k", "--device", "cpu")
    assert ended.code == 2
    for part in ("v1-44.pth (1.2 GB) is missing", "CLIP", "mmaudio weights fetch clip", "mmaudio weights fetch synchformer"):
        assert part in ended.out
    assert "small_16k" not in ended.out
    ended = run_command("doctor", "generate", "--variant", "small_16k")
    assert "mmaudio_small_16k.pth (601 MB) is missing" in ended.out and "best_netG.pt (429 MB)" in ended.out


@pytest.mark.parametrize("topic", ["extract", "generate", "evaluate"])
def test_the_lite_backend_needs_nothing(run_command, topic):
    ended = run_command("doctor", topic, "--backend", "lite", "--device", "cpu")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "nothing is missing")


def test_codecs_and_packages_that_are_not_there(run_command, monkeypatch):
    monkeypatch.setattr(weights, "missing_codecs", lambda: ["libx264 (to write)"])
    monkeypatch.setattr(packages, "requires", lambda name: ["no_such_package_of_anyone>=1", "torch<1", 'other; extra == "evaluate"'])
    (gone, old), extra = packages.missing_packages(), packages.missing_packages("evaluate")
    assert gone.startswith("the package no_such_package_of_anyone is not installed; `pip install mmaudio`")
    assert old.startswith(f"the package torch is {torch.__version__}") or "want <1" in old
    assert len(extra) == 1 and "mmaudio[evaluate]" in extra[0]
    ended = run_command("doctor", "extract")
    assert ended.code == 2 and "no_such_package_of_anyone" in ended.err
    monkeypatch.setattr(packages, "requires", lambda name: [])
    ended = run_command("doctor", "extract", "--backend", "lite", "--device", "cpu")
    assert ended.code == 2 and "PyAV's FFmpeg has no libx264 (to write)" in ended.out


def test_the_machine_alone(run_command):
    ended = run_command("doctor")
    assert ended.code == 0, ended.out
    assert "weights of the pretrained backend" in ended.out and "mmaudio doctor train|extract" in ended.out
    ended = run_command("doctor", "trian")
    assert ended.code == 2 and "(did you mean 'train'?)" in ended.err


@pytest.mark.parametrize("topic", ["train", "extract", "generate", "evaluate"])
def test_help_comes_without_torch(topic):
    code = f"""
import sys
sys.argv = ["mmaudio", "doctor", {topic!r}, "--help"]
from mmaudio.commands.main import main
try:
    main()
except SystemExit as leave:
    assert not leave.code
assert "torch" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"usage: mmaudio doctor {topic}" in ended.stdout
