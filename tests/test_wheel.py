"""What is installed: both archives hold what the commands need, and the commands run from the wheel with no checkout near."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmaudio.settings import compose
from tests.conftest import ROOT

SCRIPTS = ["train.py", "evaluate.py", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "training").glob("*.py"))]
FOLDERS = ("mmaudio", "config", "training", "docs", "tests", "benchmarks", "tools")  # of a checkout that was just made
LEFT_OUT = shutil.ignore_patterns("__pycache__", "example_*", "learning_set", "golden")
LITE = ("--device", "cpu", "--backend", "lite")
SHORT = ("--duration", "2")
TRAIN = ("model=nano_16k", "device=cpu", "backend=lite", "example_train=True", "batch_size=2", "num_iterations=2")
PAGE = ["list.js", "page.css", "page.html", "player.js", "samples.html"]


def test_every_folder_is_in_the_wheel():
    folders = [path for top in ("mmaudio", "config") for path in (ROOT / top, *(ROOT / top).rglob("*")) if path.is_dir()]
    names = [".".join(path.relative_to(ROOT).parts) for path in folders if path.name != "__pycache__"]
    wanted = {name if name.startswith("mmaudio") else f"mmaudio.{name}" for name in names}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert listed == sorted(wanted), "pyproject.toml lists the packages of the wheel"


def test_doctor_names_files_that_are_not_there(monkeypatch, tmp_path):
    from mmaudio.doctor import environment

    assert environment.missing_files() == []
    monkeypatch.setattr(compose, "CONFIG_DIR", tmp_path)
    sentences = environment.missing_files()
    assert len(sentences) == 6 and sentences[0].startswith(
        f"{tmp_path}/base_config.yaml is not there, a file of this program; `pip install"
    )


def test_advice_names_the_script_of_a_checkout_or_else_the_command(monkeypatch, tmp_path):
    assert compose.program("evaluate.py", "evaluate") == "evaluate.py"
    monkeypatch.setattr(compose, "CONFIG_DIR", tmp_path / "config")
    assert compose.program("evaluate.py", "evaluate") == "-m mmaudio evaluate"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_only_calls_its_command(script):
    assert len((ROOT / script).read_text().splitlines()) <= 15


# ---- The archives, built from a copy of this tree: the sdist, and the wheel from what the sdist holds


@dataclass(frozen=True)
class Archives:
    """`source`: the sdist, unpacked."""

    sdist: Path
    wheel: Path
    source: Path


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Archives:
    place = tmp_path_factory.mktemp("archives")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, place / "checkout" / name, ignore=LEFT_OUT)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, place / "checkout")
    sdist = build("sdist", place / "checkout", place / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    source = place / sdist.name.removesuffix(".tar.gz")
    return Archives(sdist, build("wheel", source, place / "dist"), source)


def build(what: str, source: Path, target: Path) -> Path:
    """An archive by the backend that pyproject.toml names, without an environment of its own: nothing is downloaded."""
    target.mkdir(exist_ok=True)
    code = f"import setuptools.build_meta as backend; print(backend.build_{what}({str(target)!r}))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stderr}\n(`make setup` brings the setuptools that pyproject.toml asks for)"
    return target / ended.stdout.splitlines()[-1]


@pytest.mark.slow
def test_both_archives_hold_what_is_needed(archives):
    settings = {str(path.relative_to(ROOT / "config")) for path in (ROOT / "config").rglob("*.yaml")}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "mmaudio").rglob("*.py")}
    parts = {"mmaudio/py.typed", *(f"mmaudio/report/assets/{name}" for name in PAGE)}
    assert sorted(path.name for path in (ROOT / "mmaudio/report/assets").iterdir()) == PAGE

    wheel = {name for name in zipfile.ZipFile(archives.wheel).namelist() if not name.endswith("/")}
    told = {name for name in wheel if ".dist-info/" in name}
    assert wheel - told == code | parts | {f"mmaudio/config/{name}" for name in settings}
    assert any(name.endswith("/licenses/LICENSE") for name in told)

    sdist = {str(path.relative_to(archives.source)) for path in archives.source.rglob("*") if path.is_file()}
    assert sdist >= code | parts | {f"config/{name}" for name in settings} | set(SCRIPTS)
    assert sdist >= {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "docs/performance.md"}
    assert [name for name in sdist if name.startswith(("tests/", "benchmarks/", "tools/", "output/", ".")) or "/test_" in name] == []


# ---- The wheel in an environment of its own, whose other packages are those of this one, and an empty folder


@dataclass(frozen=True)
class Installed:
    """An environment, the files it had when it was made, and the folder that commands run in."""

    environment: Path
    files: dict[str, tuple[int, int]]
    folder: Path

    def run(self, *words: str, processes: int = 0, code: int = 0) -> str:
        """`mmaudio …`, or under torchrun; what it printed."""
        command = [str(self.environment / "bin" / "mmaudio")]
        if processes:
            launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "mmaudio")
            command = [str(self.environment / "bin" / "python"), *launcher]
        ended = run_in(self.folder, [*command, *words])
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    def check_untouched(self) -> None:
        assert stamps(self.environment) == self.files, "a command wrote into its environment"


def run_in(folder: Path, command: list[str], **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **more}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory) -> Installed:
    environment = tmp_path_factory.mktemp("installed") / "environment"
    folder = tmp_path_factory.mktemp("empty")
    python, pip = str(environment / "bin" / "python"), [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(environment)],
        [*pip, "--python", python, "install", "--no-index", "--no-deps", str(archives.wheel)],
    ):
        ended = run_in(folder, command)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    (packages,) = environment.glob("lib/python*/site-packages")
    # The folder alone: what an editable install has put there runs from a .pth file, which is not read this way.
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    where = run_in(folder, [python, "-c", "import mmaudio; print(mmaudio.__file__)"])
    assert Path(where.stdout.strip()).is_relative_to(packages), where.stderr
    made = Installed(environment, stamps(environment), folder)
    made.run("partition", "--clip_length", "2.1", "--max_clips", "1")
    made.run("extract", "audio", *LITE, *SHORT)
    made.run("extract", "video", *LITE, *SHORT)
    return made


@pytest.mark.slow
def test_from_the_wheel_a_model_is_trained_and_heard(installed):
    installed.run("train", "exp_id=one", "duration_s=2", "evaluate.test=False", *TRAIN)
    installed.run("evaluate", "exp_id=one", "device=cpu")
    assert json.loads((installed.folder / "output/one/example-output_metrics.json").read_text())["metrics"]
    words = ("--video", "training/example_videos", "--captions", "training/example_video.tsv", "--output", "output/one/samples")
    installed.run("generate", "--weights", "output/one/one_ema_final.pth", "--device", "cpu", "--num_steps", "2", *words)
    assert len(list((installed.folder / "output/one/samples").glob("*.mp4"))) == 2
    installed.run("report", "output/one")
    assert 'data-src="media/' in (installed.folder / "output/one/report/index.html").read_text()
    installed.check_untouched()


@pytest.mark.slow
def test_from_the_wheel_two_processes_do_the_same(installed):
    memmap = installed.folder / "training/example_output/memmap"
    places = ("--name", "both", "--latent_dir", "parts")
    installed.run("extract", "video", *LITE, *SHORT, *places, "--batch_size", "1", processes=2)
    alone, both = (sorted(path for path in (memmap / name).iterdir() if path.is_file()) for name in ("vgg-example", "both"))
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in both]
    installed.run("train", "exp_id=two", "duration_s=2", *TRAIN, processes=2)
    folder = installed.folder / "output/two"
    assert (folder / "two_ema_final.pth").is_file() and json.loads((folder / "example-output_metrics.json").read_text())["metrics"]
    installed.run("evaluate", "exp_id=two", "output_name=again", "device=cpu", "metrics.names=[spectral_distance]", processes=2)
    assert (folder / "example-again-output_metrics.json").is_file()
    installed.check_untouched()


@pytest.mark.slow
def test_from_the_wheel_what_starts_commands_of_its_own(installed):
    said = installed.run("doctor", "train", "duration_s=2", *TRAIN)
    assert said.splitlines()[-1] == "nothing is missing"
    said = installed.run("doctor")
    assert str(installed.environment) in said
    own = [f"data.mine.{key}=training/example_output/memmap/vgg-example{end}" for key, end in (("tsv", ".tsv"), ("memmap_dir", ""))]
    settings = ("model=nano_16k", "device=cpu", "backend=lite", "duration_s=2", "batch_size=2", "data.val=[]", "data.test=[]")
    with ThreadPoolExecutor() as pool:  # most of their time goes into starting processes, one after the other
        few = ("--num_iterations", "6", "--num_train", "16", "--num_heldout", "4", "--num_audio", "4")
        example = pool.submit(installed.run, "example", *few)
        said = installed.run("verify-resume", "--steps", "3", *own, "data.train=[mine]", *settings)
        example.result()
    assert said.count("none of the ") == 2 and "killed after step" in said
    assert "<video" in (installed.folder / "output/example/report/index.html").read_text()
    assert json.loads((installed.folder / "output/example/summary.json").read_text())["clips"]["extract_heldout"]["kept"] == 4
    installed.check_untouched()


# ---- A checkout, here what the sdist holds: the published guide's commands by their scripts


@pytest.mark.slow
def test_the_guides_commands_by_the_scripts(archives, tmp_path):
    def run(script: str, *words: str, launched: bool = False) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"] if launched else []
        command = [sys.executable, *launcher, str(archives.source / script), *words]
        ended = run_in(tmp_path, command, PYTHONPATH=str(archives.source))
        assert ended.returncode == 0, ended.stdout + ended.stderr

    before = stamps(archives.source)
    run("training/make_example_data.py")
    run("training/partition_clips.py")
    run("training/extract_audio_training_latents.py", *LITE, launched=True)
    run("training/extract_video_training_latents.py", *LITE, launched=True)
    run("train.py", "exp_id=debug", "compile=False", "evaluate.test=False", *TRAIN, launched=True)
    run("evaluate.py", "exp_id=debug", "device=cpu", "metrics.names=[spectral_distance]")
    assert json.loads((tmp_path / "output/debug/example-output_metrics.json").read_text())["metrics"]
    added = stamps(archives.source).keys() - before.keys()
    assert [name for name in added if not name.endswith(".pyc")] == []
