"""What writing rows costs an extraction: time beside plain sequential writing, and memory for few rows and for many."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.row_writer import SPEC
from mmaudio.store.format import layout_of

FEW, MANY = 2_000, 20_000
PROCESSES = 2
SAMPLED_EVERY_S = 0.25
CHUNK_BYTES = 1 << 22
ROOM_SHARE = 0.4  # of the free disk that the rows may take


@dataclass(frozen=True)
class Measured:
    """One extraction of made-up rows: how long its rows took, and the most its processes held in memory of their own."""

    num_rows: int
    num_bytes: int
    seconds: float
    anonymous_bytes: int


def _anonymous_bytes(folder: str) -> int:
    """What processes with these words in their command line hold that is no page of a file, summed up."""
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and folder.encode() in (entry / "cmdline").read_bytes():
                fields = dict(line.split(":", 1) for line in (entry / "smaps_rollup").read_text().splitlines()[1:])
                total += 1024 * int(fields["Anonymous"].split()[0])
        except (FileNotFoundError, ProcessLookupError):  # it ended just now
            continue
    return total


def _extract(folder: Path, num_rows: int, processes: int) -> Measured:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "benchmarks.row_writer", str(folder), str(num_rows)]
    peak, running = 0, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while running.poll() is None:
        peak = max(peak, _anonymous_bytes(str(folder)))
        time.sleep(SAMPLED_EVERY_S)
    assert running.returncode == 0, "the extraction of made-up rows failed"
    assert running.stdout is not None
    seconds = max(float(line.split()[1]) for line in running.stdout if line.startswith("took "))
    num_bytes = sum(path.stat().st_size for path in (folder / "rows").iterdir())
    return Measured(num_rows, num_bytes, seconds, peak)


def _plain_write_s(path: Path, num_bytes: int) -> float:
    """Write so many bytes to a file front to back, and wait until they are on the disk."""
    chunk, began = os.urandom(CHUNK_BYTES), time.perf_counter()
    with open(path, "wb") as file:
        for _ in range(num_bytes // CHUNK_BYTES):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


def print_table() -> None:
    """Rows of 8 s videos at 16 kHz in the compact layout; what makes them is left out."""
    layout = layout_of("compact", "video", SPEC)
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        folder = Path(scratch).resolve()
        row_bytes = sum(_bytes(shape, layout.dtypes[name].itemsize) for name, shape in layout.row_shapes.items())
        many = min(MANY, int(ROOM_SHARE * shutil.disk_usage(folder).free / row_bytes))
        print(f"{row_bytes:,} bytes a row, captions apart. {PROCESSES} processes, one thread each.\n")
        print("| rows (processes) | GB | s, to the finished store | s, as many bytes plainly | rate against plain | anonymous MB |")
        print("|---|---|---|---|---|---|")
        for num_rows, processes in ((FEW, 1), (FEW, PROCESSES), (many, PROCESSES)):
            plain_s = [_plain_write_s(folder / "plain", num_rows * row_bytes)]
            found = _extract(folder, num_rows, processes)
            shutil.rmtree(folder / "rows")
            plain_s.append(_plain_write_s(folder / "plain", num_rows * row_bytes))
            (folder / "plain").unlink()
            plain = sum(plain_s) / 2
            print(
                f"| {num_rows:,} ({processes}) | {found.num_bytes / 1e9:.2f} | {found.seconds:.1f} | {plain:.1f} |"
                f" {plain / found.seconds:.2f} | {found.anonymous_bytes / 1e6:.0f} |",
                flush=True,
            )


def _bytes(shape: tuple[int, ...], itemsize: int) -> int:
    num = itemsize
    for side in shape:
        num *= side
    return num
