"""What this machine is, which packages are missing, how it is said."""

import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio import __version__
from mmaudio.base.errors import EXIT_USER_ERROR, UserError, nearest
from mmaudio.base.machine import memory_bytes, num_cores

if TYPE_CHECKING:  # which packages are missing is said without any of them
    import torch

# ---- How it is said: sections of lines, and in the end everything that is missing

GB = 1e9
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def quantity(value: float, unit: str) -> str:
    """`12.3 GB`, `780 kB`: three digits and the prefix that fits."""
    scale, prefix = next(((scale, prefix) for scale, prefix in _PREFIXES if value >= 0.9995 * scale), (1.0, ""))
    return f"{value / scale:.3g} {prefix}{unit}"


def print_section(title: str, lines: Iterable[tuple[str, str]]) -> None:
    """A title, and under it names and what there is to say of each, in two columns."""
    rows = list(lines)
    width = max((len(name) for name, _ in rows), default=0)
    print(title)
    for name, told in rows:
        print(f"  {name:<{width}}  {told}".rstrip())
    print(flush=True)


def print_missing(sentences: Sequence[str], nothing: str = "nothing is missing") -> int:
    """Print what is missing, all at once, each with what to do about it; the exit code. `nothing`: what to print where there is none."""
    if not sentences:
        print(nothing, flush=True)
        return 0
    print(f"missing or wrong: {len(sentences)}")
    for number, sentence in enumerate(sentences, 1):
        print(f"  {number}. {sentence}")
    return EXIT_USER_ERROR


def free_disk(place: Path) -> int:
    """Bytes that are free where `place` is, or would be made."""
    return shutil.disk_usage(nearest_there(place)).free


def nearest_there(place: Path) -> Path:
    """`place`, or the nearest folder above it that exists."""
    absolute = place.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def device_bytes(device: "torch.device") -> int:
    """Memory a process can have on a device: a GPU's in all, or what is available of the main memory."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else memory_bytes()[1]


def machine_lines(output: Path) -> Iterator[tuple[str, str]]:
    """What there is, by name.

    Args:
        output: where results are going to be, whose disk is looked at.
    """
    import torch

    total, available = memory_bytes()
    yield "python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    yield "mmaudio", f"{__version__} in {Path(__file__).parents[2]}"
    yield "torch", f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'}"
    yield from _gpu_lines()
    yield "cores", f"{num_cores()} of {os.cpu_count()}"
    yield "memory", f"{quantity(total, 'B')}, {quantity(available, 'B')} available"
    yield "disk", f"{quantity(free_disk(output), 'B')} free at {nearest_there(output)}"


def _gpu_lines() -> Iterator[tuple[str, str]]:
    import torch

    if not torch.cuda.is_available():
        yield "GPU", "none that torch can use"
        return
    bf16 = "with" if torch.cuda.is_bf16_supported(including_emulation=False) else "without"
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{found.name}, {quantity(found.total_memory, 'B')}, {bf16} bf16 units"


# ---- GPUs by name, for plans made on a machine that has none: memory and published dense matrix rates


@dataclass(frozen=True)
class Gpu:
    """Memory in bytes; FLOP/s of matrix products as published, which measured ones reach 70 to 80 % of."""

    name: str
    memory: float
    bf16_rate: float
    tf32_rate: float

    def rate(self, *, amp: bool) -> float:
        """FLOP/s in the precision that training computes in."""
        return self.bf16_rate if amp else self.tf32_rate


GPUS = {
    row.name: row
    for row in (
        Gpu("RTX4090", 24e9, 165e12, 82e12),
        Gpu("L40S", 48e9, 362e12, 183e12),
        Gpu("A100-40GB", 40e9, 312e12, 156e12),
        Gpu("A100", 80e9, 312e12, 156e12),
        Gpu("H100", 80e9, 989e12, 494e12),
        Gpu("H200", 141e9, 989e12, 494e12),
        Gpu("B200", 180e9, 2250e12, 1100e12),
    )
}


def find_gpu(name: str) -> Gpu:
    """The row of a name. Raises: UserError with the nearest one for a name that is not there."""
    if name not in GPUS:
        raise UserError(f"--gpu is {name!r}{nearest(name, GPUS)}; known are {', '.join(GPUS)}")
    return GPUS[name]


# ---- Packages that are not installed, by the metadata of this one (none is imported), and files of its own that are not there

_NAME = "mmaudio"
_CONFIG_FILES = ("base_config.yaml", "train_config.yaml", "eval_config.yaml", "data/base.yaml", "eval_data/base.yaml", "solver/flow.yaml")
_PAGE_FILES = ("page.html", "page.css", "player.js", "list.js", "samples.html")


def missing_packages(extra: str = "") -> list[str]:
    """A sentence for each package that is missing or of a version that does not do; with `extra` those of that extra alone.

    None for an extra that there is not, nor where the system itself was not installed by pip.
    """
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires(_NAME) or ()]
    except PackageNotFoundError:
        return []
    chosen = [each for each in wanted if _belongs(each, extra)]
    command = f"pip install '{_NAME}[{extra}]'" if extra else f"pip install {_NAME}"
    sentences = []
    for each in chosen:
        found = _found(each.name)
        if found is None:
            sentences.append(f"the package {each.name} is not installed; `{command}`, or `make setup`, installs it")
        elif not each.specifier.contains(found, prereleases=True):
            sentences.append(f"the package {each.name} is {found}; want {each.specifier}: `{command}`, or `make setup`, installs it")
    return sentences


def missing_files() -> list[str]:
    """A sentence for each file that this system comes with and that is not where it is installed: settings, and parts of the page."""
    from mmaudio.settings.compose import CONFIG_DIR  # which imports packages

    package = Path(__file__).resolve().parents[1]
    wanted = [*(CONFIG_DIR / name for name in _CONFIG_FILES), *(package / "report" / "assets" / name for name in _PAGE_FILES)]
    command = f"pip install --force-reinstall --no-deps {_NAME}"
    return [f"{path} is not there, a file of this program; `{command}` installs it anew" for path in wanted if not path.is_file()]


def extras() -> tuple[str, ...]:
    """Names of the extras there are, that of developers aside."""
    try:
        return tuple(name for name in metadata(_NAME).get_all("Provides-Extra") or () if name != "dev")
    except PackageNotFoundError:
        return ()


def _belongs(each: object, extra: str) -> bool:
    marker = getattr(each, "marker", None)
    if not extra:
        return marker is None or bool(marker.evaluate({"extra": ""}))
    return marker is not None and bool(marker.evaluate({"extra": extra})) and not marker.evaluate({"extra": ""})


def _found(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
