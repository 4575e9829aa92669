"""Main memory: how much there is, and how much of it can be had."""

from pathlib import Path

_KIB = 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> tuple[int, int]:
    """Main memory in all, and what of it is available now; both at most what this machine's container allows."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    known = {words[0].rstrip(":"): int(words[1]) * _KIB for words in lines}
    limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip() if _CGROUP_LIMIT.is_file() else "max"
    most = int(limit) if limit.isdecimal() else known["MemTotal"]
    return min(known["MemTotal"], most), min(known["MemAvailable"], most)
