"""The architecture as a test: which package may import which, where rare libraries live, and what importing may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mmaudio.commands.main import SUBCOMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.name for path in (ROOT / "mmaudio").iterdir() if (path / "__init__.py").is_file())
EVERYTHING = {*PACKAGES, ""}
MAY_IMPORT = {
    "base": set(),
    "files": {"base"},
    "settings": {"base", "files"},
    "distributed": {"base", "files"},
    "flow": {"base"},
    "media": {"base", "files"},
    "codec": {"base", "files"},
    "encoders": {"base", "files"},
    "weights": {"base", "files"},
    "store": {"base", "files"},
    "clips": {"base", "files", "media"},
    "features": {"base", "files", "settings", "distributed", "codec", "encoders", "weights"},
    "extraction": {"base", "files", "distributed", "media", "clips", "features", "store"},
    "batches": {"base", "settings", "store"},
    "network": {"base", "files", "flow"},
    "checkpoints": {"base", "files"},
    "runs": {"base", "files", "settings"},
    "report": {"base", "files", "media", "metrics", "runs"},
    "metrics": {"base", "files", "distributed", "media", "encoders", "weights"},
    "generate": {"base", "files", "media", "clips", "features", "flow", "network", "checkpoints"},
    "trainer": {"base", "files", "settings", "distributed", "batches", "flow", "network", "checkpoints", "runs"},
    "evaluation": EVERYTHING - {"extraction", "codec", "encoders", "flow", "report", "doctor", "commands"},
    "doctor": {"base", "settings", "distributed", "media", "weights", "features", "store", "batches", "network", "trainer", "metrics"},
    "commands": EVERYTHING,
}
ENTRY_POINTS = {"commands", "scripts"}
LIVES_IN = {
    "tensordict": {"store"},
    "av": {"media"},
    "open_clip": {"encoders"},
    "hydra": ENTRY_POINTS | {"settings/compose.py"},
    "omegaconf": ENTRY_POINTS | {"settings/compose.py", "settings/config_files.py", "runs/saved_settings.py"},
}
READS_ENVIRONMENT = {"distributed/ranks.py", "distributed/devices.py", "base/machine.py", "weights"}


def sources():
    for path in sorted((ROOT / "mmaudio").rglob("*.py")):
        inside = path.relative_to(ROOT / "mmaudio")
        yield path, inside.parts[0] if len(inside.parts) > 1 else "", str(inside)
    for path in [ROOT / "train.py", ROOT / "evaluate.py", *sorted((ROOT / "training").glob("*.py"))]:
        yield path, "scripts", str(path.relative_to(ROOT))


def imported(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize(("path", "package", "inside"), list(sources()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_of(path, package, inside):
    tree = ast.parse(path.read_text())
    for name in imported(tree):
        parts = name.split(".")
        if parts[0] == "mmaudio" and package not in ("scripts", ""):
            ours = parts[1] if len(parts) > 1 and parts[1] in PACKAGES else ""
            assert ours in MAY_IMPORT[package] | {package, ""}, f"{inside} imports {name}"
        homes = LIVES_IN.get(parts[0])
        assert homes is None or package in homes or inside in homes, f"{inside} imports {name}"
    reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
    reads += [name for name in imported(tree) if name in ("os.environ", "os.getenv")]
    assert not reads or package in READS_ENVIRONMENT or inside in READS_ENVIRONMENT, f"{inside} reads the environment"


def test_every_package_is_in_the_table():
    assert set(PACKAGES) <= set(MAY_IMPORT)


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_importing_does_no_work():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path, package, _ in sources()
        if package != "scripts"
    ]
    code = f"""
import importlib, logging, os, threading
import torch, torchvision  # what they do is theirs
before = dict(os.environ), set(os.listdir("."))
for name in {modules!r}:
    importlib.import_module(name)
assert (dict(os.environ), set(os.listdir("."))) == before, "importing changed the environment or the folder"
assert not torch.distributed.is_initialized() and not torch.cuda.is_initialized()
assert not logging.getLogger().handlers, "importing attached log handlers"
assert threading.active_count() == 1, "importing started a thread"
assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
"""
    fresh(code)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in SUBCOMMANDS)])
def test_help_comes_without_torch(words):
    code = f"""
import sys
sys.argv = ["mmaudio", *{words!r}]
from mmaudio.commands.main import main
try:
    main()
except SystemExit as leave:
    assert not leave.code
assert "torch" not in sys.modules
"""
    assert "usage: mmaudio" in fresh(code)
