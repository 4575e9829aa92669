"""Where messages and progress go. Entry points call `start_logging` once; everything else only asks for a logger."""

import logging
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_PLAIN_EVERY_S = 15.0
_TALKATIVE = ("httpx", "httpx2")  # a line for every request, at INFO


def start_logging(rank: int = 0, file: Path | None = None) -> None:
    """Attach the handlers of this process: rank 0 speaks from INFO on, other ranks only from ERROR on; its file has DEBUG, too."""
    root, ours = logging.getLogger(), logging.getLogger("mmaudio")
    root.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    ours.setLevel(logging.NOTSET)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    handlers[0].setLevel(root.level)
    if file is not None and rank == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        ours.setLevel(logging.DEBUG)
    shape = logging.Formatter("%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S")
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(shape)
        root.addHandler(handler)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def progress(items: Iterable[T], total: int, what: str, rank: int = 0, start: int = 0) -> Generator[T, None, None]:
    """Pass `items` on, showing a bar with rate and ETA on rank 0's terminal, or a line now and then elsewhere."""
    if rank != 0:
        yield from items
    elif sys.stderr.isatty():
        yield from tqdm(items, total=total, initial=start, desc=what, dynamic_ncols=True)
    else:
        yield from _lines(items, total, what, start)


def _lines(items: Iterable[T], total: int, what: str, start: int) -> Iterator[T]:
    log = logging.getLogger(__name__)
    began = told = time.monotonic()
    done = start
    for done, item in enumerate(items, start + 1):
        yield item
        now = time.monotonic()
        if now - told >= _PLAIN_EVERY_S:
            told, rate = now, (done - start) / (now - began)
            log.info("%s: %d of %d, %.2f a second, %.0f s to go", what, done, total, rate, (total - done) / rate)
    log.info("%s: %d of %d, %.1f s", what, done, total, time.monotonic() - began)
